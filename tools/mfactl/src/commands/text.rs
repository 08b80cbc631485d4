//! Pieces of the texts that commands write: names of devices, numbers of things, tables, shell quotes.

use shared::names::DeviceKey;
use unicode_width::UnicodeWidthStr as _;

/// A device as an operator names it.
pub(super) fn name_of(key: &DeviceKey) -> String {
    let [client, user, device] = [key.client.as_str(), key.user.as_str(), key.device.as_str()];
    format!("{device} of {user} (client {client})")
}

/// The options that name a device, to be copied into a shell.
pub(super) fn options_for(key: &DeviceKey) -> String {
    let [client, user, device] = [key.client.as_str(), key.user.as_str(), key.device.as_str()].map(quoted);
    format!("--client {client} --user {user} --device {device}")
}

/// A word in single quotes, for a shell.
pub(super) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// `1 device`, `2 devices`.
pub(super) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A table whose columns are as wide as their widest cell.
pub(super) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
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
            ("\u{ff21}\u{ff22}\u{3000}", 6),
            ("\u{ff71}\u{ff72}", 2),
            ("\u{d55c}\u{ae00}", 4),
            ("\u{1f511} key", 6),
            ("\u{915}\u{93f}", 2),
            ("m\u{fc}ller", 6),
            ("x\u{323}\u{302}", 1),
            ("a\u{200d}b", 2),
        ] {
            let rows = [[name, "after"], ["a name that is longer", "below"]].map(|row| row.map(str::to_owned));
            let text = table(&rows);
            let padding = text.lines().next().and_then(|line| line.strip_prefix(name));
            let padding = padding.map(|rest| rest.chars().take_while(|character| *character == ' ').count());
            assert_eq!(padding, Some("a name that is longer".len() + 2 - columns), "{text}");
        }
    }
}
