//! A device in the log: a keyed hash, never its names.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};

use crate::names::DeviceKey;

/// Turns a device into a word for the log: the same device always gives the same word, and without the key no one can
/// tell whose it is.
#[derive(Clone)]
pub struct DeviceHasher(Hmac<sha2::Sha256>);

impl DeviceHasher {
    /// With a key of any length (RFC 2104); a short one protects little.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        // HMAC takes keys of any length, so this never fails; an all-zero key would still hash.
        Self(
            Hmac::new_from_slice(key)
                .unwrap_or_else(|_| Hmac::new(&hmac::digest::Key::<Hmac<sha2::Sha256>>::default())),
        )
    }

    /// The first 16 hex digits of HMAC-SHA-256 over client, user and device.
    #[must_use]
    pub fn hash(&self, key: &DeviceKey) -> String {
        let mut mac = self.0.clone();
        for part in [key.owner.as_str(), key.user.as_str(), key.device.as_str()] {
            // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        let digest = mac.finalize().into_bytes();
        data_encoding::HEXLOWER.encode(digest.get(..8).unwrap_or_default())
    }
}

impl fmt::Debug for DeviceHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceHasher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{DeviceName, NameError, Owner, UserName};

    fn key(client: &str, user: &str, device: &str) -> Result<DeviceKey, NameError> {
        Ok(DeviceKey {
            owner: Owner::parse(client)?,
            user: UserName::parse(user)?,
            device: DeviceName::parse(device)?,
        })
    }

    #[test]
    fn the_hash_of_a_device_depends_on_the_key_and_on_every_part() -> Result<(), NameError> {
        let hasher = DeviceHasher::new(b"0123456789abcdef");
        let base = hasher.hash(&key("client", "ab", "c")?);
        assert_eq!(base.len(), 16);
        assert_eq!(base, hasher.hash(&key("client", "ab", "c")?));
        for other in [
            key("client", "a", "bc")?,
            key("clientab", "c", "c")?,
            key("client", "ab", "d")?,
        ] {
            assert_ne!(base, hasher.hash(&other));
        }
        assert_ne!(
            base,
            DeviceHasher::new(b"another key here").hash(&key("client", "ab", "c")?)
        );
        Ok(())
    }
}
