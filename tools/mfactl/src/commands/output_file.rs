//! Files that a command writes: readable by their owner alone, whole or not at all, over an existing one only with `--yes`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tempfile::NamedTempFile;

/// Fails early if the file exists.
///
/// # Errors
/// If it does.
pub fn refuse_existing(path: &Path) -> Result<()> {
    if path.symlink_metadata().is_ok() {
        bail!(
            "{} already exists: choose another name, or give --yes to overwrite it",
            path.display()
        );
    }
    Ok(())
}

/// Fails early if no file can be written there.
pub(super) fn require_writable(path: &Path) -> Result<()> {
    let fresh = NamedTempFile::new_in(parent(path));
    fresh.with_context(|| format!("cannot write {}", path.display()))?;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Writes a file, mode 0600.
pub(super) fn write(path: &Path, content: &[u8], overwrite: bool) -> Result<()> {
    let write = || -> Result<()> {
        // Created with mode 0600, and removed if anything fails.
        let mut fresh = NamedTempFile::new_in(parent(path))?;
        fresh.write_all(content)?;
        fresh.as_file().sync_all()?;
        if overwrite {
            fresh.persist(path)?;
        } else {
            fresh.persist_noclobber(path)?;
        }
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_readable_by_its_owner_alone_and_overwrites_only_when_told_to() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("code.png");
        refuse_existing(&path)?;
        write(&path, b"one", false)?;
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        assert!(refuse_existing(&path).is_err());
        assert!(write(&path, b"two", false).is_err());
        assert_eq!(fs::read(&path)?, b"one");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        write(&path, b"two", true)?;
        assert_eq!(fs::read(&path)?, b"two");
        assert_eq!(fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path())?.count(), 1, "no other file is left");
        Ok(())
    }
}
