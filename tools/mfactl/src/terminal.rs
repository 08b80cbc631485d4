//! The operator's terminal as the commands see it.
//!
//! Results go to standard output, everything else to standard error, so that a script can read the one without the other.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use zeroize::Zeroizing;

/// Where a command writes its results and asks its questions.
pub trait Terminal {
    /// Writes one or more lines of the result.
    ///
    /// # Errors
    /// If it cannot be written.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// Writes a warning or a progress note.
    ///
    /// # Errors
    /// If it cannot be written.
    fn note(&mut self, text: &str) -> io::Result<()>;

    /// Shows how far a long command is; an implementation may leave it out.
    ///
    /// # Errors
    /// If it cannot be written.
    fn progress(&mut self, done: usize, all: usize) -> io::Result<()>;

    /// Asks for a line and returns it without its line end; `None` at the end of the input.
    ///
    /// # Errors
    /// If it cannot be read.
    fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>>;

    /// Whether results may have colours.
    fn has_colours(&self) -> bool;
}

/// The standard streams of the program.
#[derive(Debug, Default)]
pub struct Console {
    progress_bar_open: bool,
}

impl Console {
    fn end_progress(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.progress_bar_open) {
            writeln!(io::stderr())?;
        }
        Ok(())
    }
}

impl Terminal for Console {
    fn say(&mut self, text: &str) -> io::Result<()> {
        self.end_progress()?;
        let mut out = io::stdout().lock();
        writeln!(out, "{text}")?;
        out.flush()
    }

    fn note(&mut self, text: &str) -> io::Result<()> {
        self.end_progress()?;
        writeln!(io::stderr(), "{text}")
    }

    fn progress(&mut self, done: usize, all: usize) -> io::Result<()> {
        if io::stderr().is_terminal() {
            const WIDTH: usize = 40;
            let filled = (WIDTH * done).checked_div(all).unwrap_or(WIDTH);
            let bar = "#".repeat(filled) + &".".repeat(WIDTH - filled);
            write!(io::stderr(), "\r[{bar}] {done} of {all}")?;
            self.progress_bar_open = true;
        }
        Ok(())
    }

    fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>> {
        self.end_progress()?;
        write!(io::stderr(), "{question} ")?;
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
}
