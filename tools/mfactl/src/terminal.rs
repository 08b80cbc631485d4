//! The person at the other end, as the commands see them: what is said, asked and confirmed.
//!
//! Answers go to standard output, everything else to standard error, so that a script can take the one without the other.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use zeroize::Zeroizing;

/// Where a command speaks and listens.
pub trait Terminal {
    /// A line, or several, of what was asked for.
    ///
    /// # Errors
    /// If it cannot be written.
    fn say(&mut self, text: &str) -> io::Result<()>;

    /// A line beside it: a warning, or what happens meanwhile.
    ///
    /// # Errors
    /// If it cannot be written.
    fn note(&mut self, text: &str) -> io::Result<()>;

    /// How far a long command is. It may be shown over what it said before, or not at all.
    ///
    /// # Errors
    /// If it cannot be written.
    fn progress(&mut self, done: usize, all: usize) -> io::Result<()>;

    /// Asks for a line, without its end; `None` if there is nobody to answer.
    ///
    /// # Errors
    /// If it cannot be read.
    fn ask(&mut self, question: &str) -> io::Result<Option<Zeroizing<String>>>;

    /// Whether what is said is drawn in colours.
    fn has_colours(&self) -> bool;
}

/// The terminal that the program runs in, or the files that stand for it.
#[derive(Debug, Default)]
pub struct Console {
    progress_is_shown: bool,
}

impl Console {
    /// What is said next begins in a line of its own.
    fn end_progress(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.progress_is_shown) {
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
            self.progress_is_shown = true;
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
