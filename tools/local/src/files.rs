//! Files that only their owner can read: a data directory (0700) and everything written into it (0600).
//!
//! A write is durable and atomic: a new file, synchronised, takes the old one's name.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;
use zeroize::Zeroizing;

/// A directory that keeps a stack's state across restarts. One stack at a time may have it open.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens a directory, and creates it if it does not exist.
    ///
    /// # Errors
    /// If it cannot be created, if it is not empty and others can read it, or if another stack has it open.
    pub fn open(path: &Path) -> Result<Arc<Self>> {
        create_private_dir(path)?;
        if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            // No one loses access to anything if an empty directory is closed to others.
            if fs::read_dir(path)?.next().is_none() {
                fs::set_permissions(path, Permissions::from_mode(0o700))?;
            } else {
                bail!(
                    "others can read {}, and it will hold seeds; run chmod 700 on it",
                    path.display()
                );
            }
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        lock.try_lock()
            .with_context(|| format!("another stack uses {}", path.display()))?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            _lock: lock,
        }))
    }

    pub(crate) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The text of a file; `None` if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>> {
        let path = self.path_of(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        write_private(&self.path_of(name), content)
    }

    /// Removes a file, if it exists.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| File::open(&self.path)?.sync_all()),
        }
        .with_context(|| format!("cannot remove {}", path.display()))
    }

    /// The names of the files that begin with a word.
    pub(crate) fn names_with(&self, start: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(|| format!("cannot read {}", self.path.display()))? {
            let name = entry?.file_name();
            names.extend(name.to_str().filter(|name| name.starts_with(start)).map(str::to_owned));
        }
        Ok(names)
    }
}

/// Creates a directory for its owner alone, unless it exists.
pub(crate) fn create_private_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// Writes a file for its owner alone. It has either the old or the new content, even after a power failure.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        // Created for its owner alone, and gone again if anything fails.
        let mut fresh = NamedTempFile::new_in(parent)?;
        fresh.write_all(content)?;
        fresh.as_file().sync_all()?;
        fresh.persist(path)?;
        // The new name is in the directory, which has to reach the disk too.
        File::open(parent)?.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// Creates an empty file for its owner alone, unless it exists.
pub(crate) fn create_private(path: &Path) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot create {}", path.display()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o777)
    }

    #[test]
    fn only_the_owner_can_read_what_is_written() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("data");
        let data_dir = DataDir::open(&path)?;
        data_dir.write("a", b"one")?;
        data_dir.write("a", b"two")?;
        assert_eq!(
            (mode(&path)?, mode(&path.join("a"))?, mode(&path.join("lock"))?),
            (0o700, 0o600, 0o600)
        );
        assert_eq!(data_dir.read("a")?.as_deref().map(String::as_str), Some("two"));
        assert!(data_dir.read("b")?.is_none());
        assert!(!path.join("a.new").exists());
        Ok(())
    }

    #[test]
    fn a_directory_that_others_can_read_is_closed_if_it_is_empty_and_refused_if_not() -> Result<()> {
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        drop(DataDir::open(folder.path())?);
        assert_eq!(mode(folder.path())?, 0o700);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750))?;
        assert!(DataDir::open(folder.path()).is_err());
        Ok(())
    }

    #[test]
    fn two_stacks_cannot_share_a_directory() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let first = DataDir::open(folder.path())?;
        assert!(DataDir::open(folder.path()).is_err());
        drop(first);
        assert!(DataDir::open(folder.path()).is_ok());
        Ok(())
    }
}
