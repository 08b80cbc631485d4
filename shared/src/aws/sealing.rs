//! The key ring, and seeds sealed under its keys: AES-256-GCM-SIV (RFC 8452), bound to their device. Pure, except that a nonce
//! is drawn.
//!
//! A key's id is derived from the key itself, so a ring that was made anew, restored or merged never confuses keys. Every key
//! stays in the ring: backups and slow writers still need it.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::attributes;
use super::seeds::corrupt;
use crate::error::StoreError;
use crate::names::{DeviceKey, SealedId};
use crate::otp::{Algorithm, Digits, OtpParameters, Period, Seed};
use crate::sealed::{KeyId, SealedSeed};

/// The only format of the ring's text so far.
const FORMAT: u64 = 1;
/// The fewest characters of a key: 256 bits in base64 without padding.
const SHORTEST_KEY: usize = 43;
/// What the derived values are for (RFC 5869, section 3.2); another value gives other keys.
const KEY_INFO: &[u8] = b"mfa sealed seed key 1";
const KEY_ID_INFO: &[u8] = b"mfa sealed seed key id 1";
/// What the associated data begins with.
const BINDING: &[u8] = b"mfa sealed seed 1";

/// The text of the key ring's secret: `{"format":1,"previous":[],"current":"<64 letters and digits>"}`.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
struct RingText {
    format: u64,
    previous: Vec<String>,
    current: String,
}

/// The derived keys of a ring.
pub struct KeyRing {
    /// The one that seals.
    current: (KeyId, RandomizedNonceKey),
    /// The others, the newest first.
    previous: Vec<(KeyId, RandomizedNonceKey)>,
}

impl KeyRing {
    /// From the text of its secret.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the text is of another format, a key is too short, or two keys have one id.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let text: RingText = serde_json::from_str(text).map_err(|_| corrupt("a key ring that is none"))?;
        if text.format != FORMAT {
            return Err(corrupt("a key ring of another format"));
        }
        let mut ring = Self {
            current: derive(&text.current)?,
            previous: Vec::with_capacity(text.previous.len()),
        };
        for previous in &text.previous {
            let key = derive(previous)?;
            if ring.has(key.0) {
                return Err(corrupt("a key ring with two keys of one id"));
            }
            ring.previous.push(key);
        }
        Ok(ring)
    }

    fn key(&self, id: KeyId) -> Option<&RandomizedNonceKey> {
        let mut keys = [&self.current].into_iter().chain(&self.previous);
        keys.find(|(own, _)| *own == id).map(|(_, key)| key)
    }

    /// The key that seals.
    #[must_use]
    pub const fn current(&self) -> KeyId {
        self.current.0
    }

    /// The other keys, the newest first.
    pub fn previous(&self) -> impl Iterator<Item = KeyId> {
        self.previous.iter().map(|(id, _)| *id)
    }

    /// Whether it has a key.
    #[must_use]
    pub fn has(&self, id: KeyId) -> bool {
        self.key(id).is_some()
    }

    /// Seals a seed for a device, under the current key and with a new nonce.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the library refuses, which does not happen.
    pub fn seal(&self, device: &DeviceKey, id: SealedId, seed: &Seed) -> Result<SealedSeed, StoreError> {
        const REFUSED: StoreError = corrupt("a seed that cannot be sealed");
        let (key_id, key) = &self.current;
        let mut text = plaintext(seed);
        let aad = Aad::from(binding(device, id));
        let (nonce, tag) = key.seal_in_place_separate_tag(aad, &mut text).map_err(|_| REFUSED)?;
        let mut sealed = vec![SealedSeed::FORMAT];
        sealed.extend_from_slice(&key_id.0);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        Ok(SealedSeed::from_bytes(sealed))
    }

    /// Opens a seed that was sealed for this device and id.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it does not open, whatever the reason.
    pub fn open(&self, device: &DeviceKey, id: SealedId, sealed: &SealedSeed) -> Result<Seed, StoreError> {
        let (key_id, rest) = sealed
            .key_and_rest()
            .ok_or(unreadable("a sealed seed of another format"))?;
        let key = self
            .key(key_id)
            .ok_or(unreadable("a seed sealed under a key that the key ring does not have"))?;
        let open = || {
            let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>()?;
            let mut text = Zeroizing::new(text.to_vec());
            let aad = Aad::from(binding(device, id));
            let opened = key.open_in_place(Nonce::from(nonce), aad, &mut text).ok()?;
            read_plaintext(opened)
        };
        open().ok_or(unreadable("a sealed seed that does not open"))
    }
}

/// Not its keys.
impl std::fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<KeyId> = [self.current()].into_iter().chain(self.previous()).collect();
        f.debug_struct("KeyRing")
            .field("keys", &keys)
            .field("current", &self.current())
            .finish_non_exhaustive()
    }
}

/// The text of a ring with another key that seals, and that key's id. The one that sealed before stays in it.
///
/// # Errors
/// [`StoreError::Corrupt`] if the text is not a ring, or the new one would not be.
#[cfg(feature = "operator")]
pub(super) fn with_new_key(text: &str, characters: &str) -> Result<(Zeroizing<String>, KeyId), StoreError> {
    let mut ring: RingText = serde_json::from_str(text).map_err(|_| corrupt("a key ring that is none"))?;
    let former = std::mem::replace(&mut ring.current, characters.to_owned());
    ring.previous.insert(0, former);
    // Full capacity from the start: a buffer that grows would leave copies behind.
    let mut written = Zeroizing::new(Vec::with_capacity(text.len() + characters.len() + 64));
    serde_json::to_writer(&mut *written, &ring).map_err(|_| corrupt("a key ring that cannot be written"))?;
    let written = String::from_utf8(std::mem::take(&mut *written)).map(Zeroizing::new);
    let written = written.map_err(|_| corrupt("a key ring that cannot be written"))?;
    let key = KeyRing::parse(&written)?.current();
    Ok((written, key))
}

const fn unreadable(what: &'static str) -> StoreError {
    attributes::corrupt(what)
}

/// A key and its id (RFC 5869, HKDF-SHA-256 without a salt): the characters have enough entropy.
fn derive(characters: &str) -> Result<(KeyId, RandomizedNonceKey), StoreError> {
    if characters.len() < SHORTEST_KEY {
        return Err(corrupt("a key ring with a key that is too short"));
    }
    let prk = Salt::new(HKDF_SHA256, &[]).extract(characters.as_bytes());
    let derived = || {
        let [a, b, c, d, ..] = *expand(&prk, KEY_ID_INFO)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, expand(&prk, KEY_INFO)?.as_slice()).ok()?;
        Some((KeyId([a, b, c, d]), key))
    };
    derived().ok_or(corrupt("a key ring with a key that cannot be derived"))
}

fn expand(prk: &Prk, info: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    prk.expand(&[info], HKDF_SHA256).ok()?.fill(out.as_mut_slice()).ok()?;
    Some(out)
}

/// Algorithm, digits and period in a byte each, then the seed.
fn plaintext(seed: &Seed) -> Zeroizing<Vec<u8>> {
    let parameters = seed.parameters();
    let algorithm = match parameters.algorithm {
        Algorithm::Sha1 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Sha512 => 3,
    };
    let period = match parameters.period {
        Period::Thirty => 30,
        Period::Sixty => 60,
    };
    // Full capacity from the start: a buffer that grows would leave copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(3 + seed.as_bytes().len()));
    text.extend_from_slice(&[algorithm, parameters.digits.count(), period]);
    text.extend_from_slice(seed.as_bytes());
    text
}

fn read_plaintext(text: &[u8]) -> Option<Seed> {
    let ([algorithm, digits, period], seed) = text.split_first_chunk()?;
    let parameters = OtpParameters {
        algorithm: match algorithm {
            1 => Algorithm::Sha1,
            2 => Algorithm::Sha256,
            3 => Algorithm::Sha512,
            _ => return None,
        },
        digits: Digits::from_count((*digits).into())?,
        period: Period::from_seconds((*period).into())?,
    };
    Seed::from_bytes(seed, parameters).ok()
}

/// What a sealed seed is bound to: each part with its length, so that no two devices have the same.
fn binding(device: &DeviceKey, id: SealedId) -> Vec<u8> {
    let parts: [&[u8]; 5] = [
        BINDING,
        device.owner.as_str().as_bytes(),
        device.user.as_str().as_bytes(),
        device.device.as_str().as_bytes(),
        id.as_bytes(),
    ];
    let with_length = parts.into_iter().flat_map(|part| {
        // Names have at most 512 bytes.
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes();
        length.into_iter().chain(part.iter().copied())
    });
    with_length.collect()
}

#[cfg(test)]
mod tests;
