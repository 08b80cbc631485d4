//! The parser, and what is generated from it: completions and manual pages.

use std::path::Path;

use clap::{Arg, Command, CommandFactory as _, FromArgMatches as _};

use super::arguments::Arguments;
use crate::terminal::{visible_lines, write_all};

/// Parses the command line of the process; exits if it is wrong or asks for help.
#[must_use]
pub fn parse() -> Arguments {
    let matches = command().try_get_matches();
    let parsed = matches.and_then(|matches| Arguments::from_arg_matches(&matches));
    parsed.unwrap_or_else(|error| {
        if !error.use_stderr() {
            error.exit()
        }
        // Nothing can be done if even this cannot be written.
        let _ = write_all(std::io::stderr(), visible_lines(&error.render().to_string()).as_bytes());
        std::process::exit(error.exit_code())
    })
}

/// The parser. Commands that use no deployment do not show the options that name one.
fn command() -> Command {
    let without_deployment = |command: Command| {
        // A local argument with the same id keeps the global one out.
        let hidden = ["local", "stack"].map(|name| Arg::new(name).long(name).num_args(0..=1).hide(true));
        command.args(hidden)
    };
    Arguments::command()
        .mut_subcommand("completions", without_deployment)
        .mut_subcommand("man", without_deployment)
}

/// The completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "mfactl", &mut text);
    text
}

/// The manual page of the program.
pub(super) fn manual() -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command()).render(&mut text)?;
    Ok(text)
}

/// Writes the manual pages of all commands.
pub(super) fn write_manuals(directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command(), directory)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context as _, Result};

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn no_option_has_a_seed_a_code_or_a_key_as_its_value() {
        const ALLOWED: [&str; 10] = [
            "seed_prefix",
            "seed_key",
            "seed_tags",
            "seed_storage",
            "seed_cache_seconds",
            "key_ring",
            "allow_weak_seeds",
            "allow_dated_keys",
            "show_secret",
            "codes",
        ];
        fn options(command: &Command, all: &mut Vec<String>) {
            all.extend(
                command
                    .get_arguments()
                    .map(|argument| argument.get_id().as_str().to_owned()),
            );
            command.get_subcommands().for_each(|command| options(command, all));
        }
        let mut all = Vec::new();
        options(&command(), &mut all);
        assert!(all.contains(&"pre_shared_key_file".to_owned()));
        for name in all {
            let is_secret = ["seed", "secret", "code", "otp", "key"]
                .iter()
                .any(|word| name.contains(word));
            assert!(
                !is_secret || name.ends_with("_file") || ALLOWED.contains(&&*name),
                "{name}"
            );
        }
    }

    #[test]
    fn completions_and_manual_have_the_commands() -> Result<()> {
        for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh] {
            assert!(String::from_utf8(completions(shell))?.contains("reset-budget"));
        }
        let folder = tempfile::tempdir()?;
        write_manuals(folder.path())?;
        assert!(folder.path().join("mfactl-device-register.1").exists());
        assert!(String::from_utf8(manual()?)?.contains("mfactl"));
        Ok(())
    }

    #[test]
    fn a_command_shows_only_the_options_that_it_takes() -> Result<()> {
        for (path, shown, hidden) in [
            (&["device", "list"][..], "--devices-table", "--seed-prefix"),
            (&["device", "import"], "--seed-key", "--policy"),
            (&["device", "unlock"], "--policy", "--seed-key"),
            (&["device", "remove"], "--yes", "--policy"),
            (&["client", "list"], "--user-pool", "--devices-table"),
            (&["client", "add"], "--token-url", "--devices-table"),
            (&["doctor"], "--stack", "--devices-table"),
            (&["man"], "DIRECTORY", "--stack"),
            (&["completions"], "SHELL", "--local"),
        ] {
            let mut command = command();
            command.build();
            let mut command = &mut command;
            for name in path {
                command = command.find_subcommand_mut(name).context("no such command")?;
            }
            let help = command.render_long_help().to_string();
            assert!(help.contains(shown) && !help.contains(hidden), "{help}");
        }
        Ok(())
    }
}
