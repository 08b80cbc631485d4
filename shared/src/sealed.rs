//! What the core knows of a sealed seed: that it is a blob beside its device, and which key of the key ring sealed it.
//!
//! No verdict depends on it. Sealing and opening are in `aws::sealing`.

use std::fmt;

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
