//! The question before something that cannot be undone.

use anyhow::{Result, bail};

use crate::terminal::Terminal;

/// Asks for confirmation, unless `yes` was given.
///
/// # Errors
/// If the answer is not yes.
pub(super) fn confirm(terminal: &mut impl Terminal, yes: bool, question: &str) -> Result<()> {
    if yes {
        return Ok(());
    }
    let answer = terminal.ask(&format!("{question} [y/N]"))?;
    match answer.as_deref().map(String::as_str) {
        Some("y" | "Y" | "yes" | "Yes" | "YES") => Ok(()),
        Some(_) => bail!("not confirmed; nothing was changed"),
        None => bail!("not confirmed; nothing was changed. In a script, give --yes"),
    }
}
