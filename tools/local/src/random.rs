//! Random ids and secrets in AWS's forms, all from the operating system's generator.

use anyhow::Result;
use shared::random::{Random as _, SystemRandom};
use zeroize::Zeroizing;

const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// `N` random bytes.
pub(crate) fn bytes<const N: usize>() -> Result<Zeroizing<[u8; N]>> {
    let mut bytes = Zeroizing::new([0; N]);
    for chunk in bytes.chunks_mut(16) {
        let fresh = Zeroizing::new(SystemRandom.sixteen_bytes()?);
        for (to, from) in chunk.iter_mut().zip(fresh.iter()) {
            *to = *from;
        }
    }
    Ok(bytes)
}

/// Lower-case letters and digits, the form of Cognito's client ids and secrets.
pub(crate) fn word(length: usize) -> Result<Zeroizing<String>> {
    let mut word = Zeroizing::new(String::with_capacity(length));
    while word.len() < length {
        for byte in bytes::<16>()?.iter() {
            // 252 is the highest multiple of 36 in a byte: beyond it, some letters would be more frequent.
            let letter = LETTERS
                .get(usize::from(byte % 36))
                .filter(|_| *byte < 252 && word.len() < length);
            word.extend(letter.map(|letter| char::from(*letter)));
        }
    }
    Ok(word)
}

/// A version 4 UUID.
pub(crate) fn uuid() -> Result<String> {
    let id = uuid::Builder::from_random_bytes(SystemRandom.sixteen_bytes()?).into_uuid();
    Ok(id.hyphenated().to_string())
}

/// 15 letters and `=`, the form of API Gateway's extended request ids.
pub(crate) fn extended_request_id() -> Result<String> {
    Ok(data_encoding::BASE64.encode(bytes::<11>()?.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_values_have_the_forms_of_aws() -> Result<()> {
        for length in [0, 1, 26, 51] {
            let word = word(length)?;
            assert_eq!(word.len(), length);
            assert!(word.bytes().all(|byte| LETTERS.contains(&byte)), "{}", word.len());
        }
        assert_ne!(word(26)?, word(26)?);
        assert_eq!((uuid()?.len(), extended_request_id()?.len()), (36, 16));
        assert_ne!(bytes::<40>()?, bytes::<40>()?);
        Ok(())
    }
}
