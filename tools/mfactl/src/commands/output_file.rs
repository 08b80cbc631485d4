//! Files that a command writes: readable by their owner alone, over an existing one only with `--yes`.
//!
//! A command opens them before its first side effect, so that nothing is created whose secret could not be written.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use tempfile::{Builder, NamedTempFile};

/// A file that is open and empty. Unless it is written, it is gone when this is dropped.
#[derive(Debug)]
pub(super) struct OutputFile {
    /// With the path as its name, or with another one, to replace an existing file when it is whole.
    file: NamedTempFile,
    path: PathBuf,
}

impl OutputFile {
    /// Creates a file, mode 0600.
    ///
    /// # Errors
    /// If it cannot be created, or if there is one and `overwrite` is not given.
    pub(super) fn open(path: &Path, overwrite: bool) -> Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        let name = path
            .file_name()
            .with_context(|| format!("{}: it names no file", cannot()))?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let existing = path.symlink_metadata();
        if existing.as_ref().is_ok_and(|existing| !existing.is_file()) {
            bail!("{}: it exists and is not a regular file", cannot());
        }
        let file = if overwrite {
            NamedTempFile::new_in(parent)
        } else if existing.is_ok() {
            bail!(
                "{} already exists: choose another name, or give --yes to overwrite it",
                path.display()
            );
        } else {
            // Its name is taken from now on.
            Builder::new().prefix(name).rand_bytes(0).tempfile_in(parent)
        };
        Ok(Self {
            file: file.with_context(cannot)?,
            path: path.to_owned(),
        })
    }

    /// Writes the file. If that fails, it is gone.
    pub(super) fn write(mut self, content: &[u8]) -> Result<()> {
        let path = self.path;
        let write = || -> Result<()> {
            self.file.write_all(content)?;
            self.file.as_file().sync_all()?;
            if self.file.path().file_name() == path.file_name() {
                self.file.keep()?;
            } else {
                self.file.persist(&path)?;
            }
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_file_is_readable_by_its_owner_alone_and_overwrites_only_when_told_to() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("code.png");
        let file = OutputFile::open(&path, false)?;
        assert!(OutputFile::open(&path, false).is_err(), "its name is taken");
        file.write(b"one")?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        let error = OutputFile::open(&path, false).err().map(|error| error.to_string());
        assert!(error.is_some_and(|error| error.contains("--yes")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        let file = OutputFile::open(&path, true)?;
        assert_eq!(fs::read(&path)?, b"one", "it stays until the new one is whole");
        file.write(b"two")?;
        assert_eq!(fs::read(&path)?, b"two");
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "no other file is left");
        Ok(())
    }

    #[test]
    fn a_file_that_is_not_written_leaves_nothing_behind() -> Result<()> {
        let folder = tempfile::tempdir()?;
        for overwrite in [false, true] {
            drop(OutputFile::open(&folder.path().join("new"), overwrite)?);
        }
        fs::write(folder.path().join("old"), "old")?;
        drop(OutputFile::open(&folder.path().join("old"), true)?);
        assert_eq!(fs::read(folder.path().join("old"))?, b"old");
        assert_eq!(fs::read_dir(folder.path())?.count(), 1);
        Ok(())
    }

    #[test]
    fn what_cannot_be_a_file_is_refused_when_it_is_opened() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let within = |name: &str| folder.path().join(name);
        fs::create_dir(within("folder"))?;
        symlink("/dev/null", within("link"))?;
        for overwrite in [false, true] {
            for path in [
                within("folder"),
                within("link"),
                within("no/folder"),
                within(".."),
                PathBuf::new(),
            ] {
                let error = OutputFile::open(&path, overwrite).err().map(|error| error.to_string());
                assert!(
                    error.is_some_and(|error| error.contains("cannot write")),
                    "{}",
                    path.display()
                );
            }
        }
        Ok(())
    }
}
