//! The operator's terminal as the commands see it.
//!
//! Results go to standard output, everything else to standard error, so that a script can read the one without the other.
//! What people read shows no character that hides itself or others, wherever a name with one comes from.

use std::io::{self, BufRead as _, IsTerminal as _, Write};
use std::time::Duration;

use zeroize::Zeroizing;

/// Where a command writes its results and asks its questions.
pub trait Terminal {
    /// Writes one or more lines of the result, for people: as [`visible_lines`].
    ///
    /// # Errors
    /// If it cannot be written.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// Writes one or more lines of the result exactly: JSON, a QR code, a secret, of which it leaves no copy.
    ///
    /// # Errors
    /// If it cannot be written.
    fn print(&mut self, text: &str) -> io::Result<()>;

    /// Writes a warning or a progress note.
    ///
    /// # Errors
    /// If it cannot be written.
    fn note(&mut self, text: &str) -> io::Result<()>;

    /// Shows how far a long command is after a time; an implementation may leave it out.
    ///
    /// # Errors
    /// If it cannot be written.
    fn progress(&mut self, done: usize, all: usize, elapsed: Duration) -> io::Result<()>;

    /// Asks for a line and returns it without its line end; `None` at the end of the input.
    ///
    /// # Errors
    /// If it cannot be read.
    fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>>;

    /// Whether results may have colours.
    fn has_colours(&self) -> bool;

    /// How many columns a line of the result may have; `None` if results do not go to a terminal.
    fn columns(&self) -> Option<usize>;
}

/// Characters that are blank or invisible although Unicode counts them as letters, marks or symbols: most of the property
/// `Default_Ignorable_Code_Point`, and the empty Braille pattern.
const BLANKS: [std::ops::RangeInclusive<char>; 9] = [
    '\u{34f}'..='\u{34f}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{2800}'..='\u{2800}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{e0100}'..='\u{e01ef}',
];

/// Whether a character is not seen as itself on a terminal, or changes how others are seen: controls, format characters
/// (direction, zero width), separators other than the space, private and unassigned ones, blanks.
pub(crate) fn is_hidden(character: char) -> bool {
    // What is not printable to the standard library; after a letter, that leaves combining marks alone.
    let escaped = String::from_iter(['a', character]);
    let mut escaped = escaped.escape_debug().skip(1);
    let unprintable = escaped.next() == Some('\\') && escaped.next() == Some('u');
    unprintable || character.is_control() || BLANKS.iter().any(|blanks| blanks.contains(&character))
}

/// A text with its hidden characters as `\u{202e}`.
pub(crate) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// As `visible`, with line ends as they are.
#[must_use]
pub fn visible_lines(text: &str) -> String {
    text.split('\n').map(visible).collect::<Vec<_>>().join("\n")
}

/// No one reads the output any more, as after `mfactl … | head -1`.
#[derive(Debug, thiserror::Error)]
#[error("the output was closed")]
struct OutputClosed;

/// Whether a command ended because no one reads its output any more. A broken connection to a store is another error.
#[must_use]
pub fn is_output_closed(error: &anyhow::Error) -> bool {
    let causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes
        .filter_map(io::Error::get_ref)
        .any(|cause| cause.downcast_ref::<OutputClosed>().is_some())
}

/// Writes all to a standard stream.
///
/// # Errors
/// If it cannot be written; [`is_output_closed`] recognises one of them.
pub fn write_all(mut stream: impl Write, text: &[u8]) -> io::Result<()> {
    let written = stream.write_all(text).and_then(|()| stream.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), OutputClosed),
        _ => error,
    })
}

/// The standard streams of the program.
#[derive(Debug, Default)]
pub struct Console {
    progress_bar_open: bool,
}

impl Console {
    /// Takes the progress bar away; the next one is drawn below what is written now.
    fn end_progress(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.progress_bar_open) {
            write_all(io::stderr(), CLEAR_LINE.as_bytes())?;
        }
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Nothing can be done if this cannot be written.
        let _ = self.end_progress();
    }
}

const CLEAR_LINE: &str = "\r\u{1b}[K";

/// A progress bar with the rate and the time that is left, in fewer than 80 columns.
fn progress_bar(done: usize, all: usize, elapsed: Duration) -> String {
    const WIDTH: usize = 20;
    let filled = (WIDTH * done).checked_div(all).unwrap_or(WIDTH);
    let bar = "#".repeat(filled) + &".".repeat(WIDTH - filled);
    let millis = elapsed.as_millis();
    let (done_so_far, left) = (done as u128, all.saturating_sub(done) as u128);
    let time = match (done_so_far * 1_000 + millis / 2).checked_div(millis) {
        Some(rate) if left > 0 && done > 0 => {
            let seconds = (left * millis).div_ceil(done_so_far * 1_000);
            let left = match (seconds / 3_600, seconds % 3_600 / 60, seconds % 60) {
                (0, 0, seconds) => format!("{seconds} s"),
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, minutes, _) => format!("{hours} h {minutes} min"),
            };
            format!(", {rate}/s, {left} left")
        }
        _ => String::new(),
    };
    format!("[{bar}] {done} of {all}{time}")
}

impl Terminal for Console {
    fn say(&mut self, text: &str) -> io::Result<()> {
        self.print(&visible_lines(text))
    }

    fn print(&mut self, text: &str) -> io::Result<()> {
        self.end_progress()?;
        let mut out = io::stdout().lock();
        write_all(&mut out, text.as_bytes())?;
        write_all(out, b"\n")
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        self.end_progress()?;
        write_all(io::stderr(), format!("{}\n", visible_lines(text)).as_bytes())
    }

    fn progress(&mut self, done: usize, all: usize, elapsed: Duration) -> io::Result<()> {
        if io::stderr().is_terminal() {
            let bar = progress_bar(done, all, elapsed);
            write_all(io::stderr(), format!("{CLEAR_LINE}{bar}").as_bytes())?;
            self.progress_bar_open = true;
        }
        Ok(())
    }

    fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
        self.end_progress()?;
        write_all(io::stderr(), format!("{} ", visible_lines(question)).as_bytes())?;
        let mut line = Zeroizing::new(String::with_capacity(256));
        if io::stdin().lock().read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let length = line.trim_end_matches(['\r', '\n']).len();
        line.truncate(length);
        Ok(Some(line))
    }

    fn has_colours(&self) -> bool {
        io::stdout().is_terminal()
    }

    fn columns(&self) -> Option<usize> {
        terminal_size::terminal_size_of(io::stdout()).map(|(columns, _)| columns.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_hide_are_shown_by_their_numbers_and_all_others_as_they_are() {
        for hidden in [
            '\0',
            '\t',
            '\n',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{2003}',
            '\u{200b}',
            '\u{200c}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202b}',
            '\u{202c}',
            '\u{202d}',
            '\u{202e}',
            '\u{202f}',
            '\u{2060}',
            '\u{2066}',
            '\u{2067}',
            '\u{2068}',
            '\u{2069}',
            '\u{206a}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fff9}',
            '\u{fffe}',
            '\u{378}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0100}',
            '\u{f0000}',
            '\u{10ffff}',
        ] {
            let expected = format!("a\\u{{{:x}}}b", u32::from(hidden));
            assert_eq!(visible(&format!("a{hidden}b")), expected);
        }
        let plain = "DOMAIN\\user 'a' \"b\" m\u{fc}ller x\u{323}\u{302} \u{5c71}\u{7530} \u{915}\u{93f} \u{1f511} \u{5d0} \u{627}";
        assert_eq!(visible(plain), plain);
        assert_eq!(visible_lines("a\nb\r\u{202e}\n"), "a\nb\\u{d}\\u{202e}\n");
    }

    #[test]
    fn the_progress_bar_tells_rate_and_time_left_once_they_are_known() {
        for (done, all, seconds, expected) in [
            (0, 10_000, 0, "[....................] 0 of 10000"),
            (
                2_500,
                10_000,
                62,
                "[#####...............] 2500 of 10000, 40/s, 3 min 6 s left",
            ),
            (1, 10_000, 2, "[....................] 1 of 10000, 1/s, 5 h 33 min left"),
            (
                9_999,
                10_000,
                250,
                "[###################.] 9999 of 10000, 40/s, 1 s left",
            ),
            (10_000, 10_000, 250, "[####################] 10000 of 10000"),
        ] {
            assert_eq!(progress_bar(done, all, Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn only_a_closed_output_is_recognised_as_one() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = write_all(Closed, b"a").map_err(|error| anyhow::Error::from(error).context("what was done"));
        assert!(error.is_err_and(|error| is_output_closed(&error)));
        let connection = io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(!is_output_closed(&anyhow::Error::from(connection)));
    }
}
