//! What the core knows of a sealed seed: that it is a blob beside its device, and which key of the key ring sealed it.
//!
//! No verdict depends on it. Sealing and opening are in `aws::sealing`.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "operator")]
use uuid::Uuid;
#[cfg(feature = "operator")]
use zeroize::Zeroizing;

#[cfg(feature = "operator")]
use crate::error::RandomError;
#[cfg(feature = "operator")]
use crate::random::Random;

/// Where new seeds are kept. Both kinds live in one table; a device says which it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SeedStorage {
    /// Each in a secret of its own.
    #[default]
    Secrets,
    /// Sealed beside their devices, under a key of the key ring.
    Sealed,
}

impl SeedStorage {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Secrets, Self::Sealed];

    /// The written form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::Sealed => "sealed",
        }
    }

    /// From the written form.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|storage| storage.as_str() == raw)
    }
}

/// A key of the key ring, by what its id is derived from: the key itself. Says nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 4]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// How long a function keeps the key ring in memory, by how long it keeps seeds. Zero does not apply to the ring.
#[must_use]
pub const fn time_in_memory(seeds_for: Duration) -> Duration {
    const DEFAULT: Duration = Duration::from_mins(5);
    if seeds_for.is_zero() { DEFAULT } else { seeds_for }
}

/// A seed as it lies beside its device: a byte for the format, the id of the key (4 bytes), a nonce (12 bytes), then the
/// ciphertext and its tag.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SealedSeed(Vec<u8>);

impl SealedSeed {
    /// The only format so far.
    pub const FORMAT: u8 = 1;

    /// As it is stored. Whether it opens is found out when it is opened.
    #[must_use]
    pub const fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// As it is stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key that it is sealed under, and the rest of it; `None` if it is of another format.
    #[must_use]
    pub fn key_and_rest(&self) -> Option<(KeyId, &[u8])> {
        let (format, rest) = self.0.split_first()?;
        let (key, rest) = rest.split_first_chunk()?;
        (*format == Self::FORMAT).then_some((KeyId(*key), rest))
    }

    /// The key that it is sealed under.
    #[must_use]
    pub fn key_id(&self) -> Option<KeyId> {
        self.key_and_rest().map(|(key, _)| key)
    }
}

/// No part of it: whoever has the key ring opens it.
impl fmt::Debug for SealedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedSeed(…)")
    }
}

/// A key that is to be added to the key ring, and the version of the ring's secret that has it first.
#[cfg(feature = "operator")]
pub struct NewKey {
    characters: Zeroizing<String>,
    version: Uuid,
}

#[cfg(feature = "operator")]
impl NewKey {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const LENGTH: usize = 64;
    /// Of 16 bytes: 62^16 is 2^95, so that no character is likelier than another by more than 2^-32.
    const CHARACTERS_OF_A_DRAW: usize = 16;

    /// Draws 64 letters and digits.
    ///
    /// # Errors
    /// [`RandomError`] if the generator fails.
    pub fn generate(random: &impl Random) -> Result<Self, RandomError> {
        let mut characters = Zeroizing::new(String::with_capacity(Self::LENGTH));
        while characters.len() < Self::LENGTH {
            let mut drawn = Zeroizing::new(u128::from_be_bytes(random.sixteen_bytes()?));
            for _ in 0..Self::CHARACTERS_OF_A_DRAW {
                let place = usize::try_from(*drawn % 62).unwrap_or_default();
                characters.extend(Self::ALPHABET.get(place).copied().map(char::from));
                *drawn /= 62;
            }
        }
        let version = uuid::Builder::from_random_bytes(random.sixteen_bytes()?).into_uuid();
        Ok(Self { characters, version })
    }

    /// The key itself.
    #[must_use]
    pub fn characters(&self) -> &str {
        &self.characters
    }

    /// The id of the secret's version.
    #[must_use]
    pub fn version(&self) -> String {
        self.version.hyphenated().to_string()
    }
}

/// Not the key.
#[cfg(feature = "operator")]
impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({})", self.version)
    }
}

#[cfg(all(test, feature = "operator"))]
mod tests {
    use super::*;
    use crate::testing::random::{FailingRandom, SequenceRandom};

    #[test]
    fn a_new_key_has_64_letters_and_digits_and_is_never_shown() -> Result<(), RandomError> {
        let random = SequenceRandom::from_start(1);
        let (one, other) = (NewKey::generate(&random)?, NewKey::generate(&random)?);
        assert!(one.characters().len() == 64 && one.characters().chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(one.characters() != other.characters() && one.version() != other.version());
        assert!(!format!("{one:?}").contains(one.characters()));
        assert!(NewKey::generate(&FailingRandom).is_err());
        Ok(())
    }
}
