//! Pieces of the texts that commands write: names of devices, numbers of things, tables, shell quotes.

use shared::names::DeviceKey;
use shared::sealed::KeyId;
use unicode_width::UnicodeWidthStr as _;

use crate::terminal::{is_hidden, visible};

/// A device as an operator names it.
pub(super) fn name_of(key: &DeviceKey) -> String {
    let [owner, user, device] = [key.owner.as_str(), key.user.as_str(), key.device.as_str()];
    format!("{device} of {user} (owner {owner})")
}

/// The options that name a device, to be copied into a shell.
pub(super) fn options_for(key: &DeviceKey) -> String {
    let [owner, user, device] = [key.owner.as_str(), key.user.as_str(), key.device.as_str()].map(quoted);
    format!("--owner {owner} --user {user} --device {device}")
}

/// How a seed is sealed; `None` stands for an unknown format.
pub(super) fn under(key: Option<KeyId>) -> String {
    key.map_or("in an unknown format".to_owned(), |key| format!("under key {key}"))
}

/// A word in single quotes, for a shell. One with hidden characters has their bytes in octal, which a shell that knows `$'…'`
/// (bash, zsh, ksh) reads as the same word.
pub(super) fn quoted(word: &str) -> String {
    if !word.contains(is_hidden) {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    let mut text = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => text.extend(['\\', character]),
            _ if is_hidden(character) => {
                let mut bytes = [0; 4];
                let bytes = character.encode_utf8(&mut bytes).bytes();
                text.extend(bytes.map(|byte| format!("\\{byte:03o}")));
            }
            _ => text.push(character),
        }
    }
    text + "'"
}

/// `1 device`, `2 devices`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A table whose columns are as wide as their widest cell, as it is shown.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let rows: Vec<_> = rows
        .iter()
        .map(|row| row.each_ref().map(|cell| visible(cell)))
        .collect();
    let mut widths = [0; COLUMNS];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let lines = rows.iter().map(|row| {
        let cells = row.iter().zip(widths);
        let padded = cells.map(|(cell, width)| format!("{cell}{}", " ".repeat(width.saturating_sub(cell.width()))));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_whatever_characters_a_name_has() {
        for (name, columns) in [
            ("alice", 5),
            ("\u{5c71}\u{7530}", 4),
            ("\u{5c71}\u{7530} \u{592a}\u{90ce}", 9),
            ("\u{ff21}\u{ff22}", 4),
            ("\u{ff71}\u{ff72}", 2),
            ("\u{d55c}\u{ae00}", 4),
            ("\u{1f511} key", 6),
            ("\u{915}\u{93f}", 2),
            ("m\u{fc}ller", 6),
            ("x\u{323}\u{302}", 1),
            ("a\u{200d}b", 10),
            ("a\u{202e}\u{2066}\u{200b}", 25),
            ("a\nb", 7),
        ] {
            let rows = [[name, "after"], ["a name that is much longer", "below"]].map(|row| row.map(str::to_owned));
            let text = table(&rows);
            let padding = text.lines().next().and_then(|line| line.strip_prefix(&visible(name)));
            let padding = padding.map(|rest| rest.chars().take_while(|character| *character == ' ').count());
            assert_eq!(
                padding,
                Some("a name that is much longer".len() + 2 - columns),
                "{text}"
            );
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() -> anyhow::Result<()> {
        for word in [
            "alice",
            "it's",
            "a\\b$c`d\"",
            "a\u{202e}7'\\\u{2066}",
            "\u{200b}",
            "\u{5c71}\u{7530}",
            "\u{1f511}\u{e0001}",
        ] {
            let text = quoted(word);
            assert!(!text.contains(is_hidden), "{text}");
            let script = format!("printf %s {text}");
            let output = std::process::Command::new("bash").args(["-c", &script]).output()?;
            assert_eq!(String::from_utf8(output.stdout)?, word, "{text}");
        }
        Ok(())
    }
}
