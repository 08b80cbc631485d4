//! Finds secrets in what was written: as they are, and in every form that a careless line could give them.

use std::fmt;

use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result};
use data_encoding::{BASE32_NOPAD, BASE64_NOPAD, BASE64URL_NOPAD, Encoding, HEXLOWER};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, percent_encode_byte};

/// Of a longer secret only this many bytes are searched for.
const KNOWN_BY: usize = 32;
/// Shorter secrets occur by chance within longer numbers, so they count only as separate words.
const CHANCE: usize = 8;
/// What a URL shows as it is (RFC 3986, section 2.3).
const IN_URLS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What must never be written. Its `Debug` does not show it.
#[derive(Default, Clone)]
pub struct Secrets(Vec<(String, Vec<u8>)>);

/// A secret that was found: what it is and in which form, without the secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// What was found, in the words of [`Secrets::add`].
    pub what: String,
    /// How it was written.
    pub form: &'static str,
}

impl Secrets {
    /// Adds a secret. It needs six bytes: shorter ones occur by chance.
    pub fn add(&mut self, what: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref();
        self.0
            .push((what.to_owned(), secret.get(..KNOWN_BY).unwrap_or(secret).to_vec()));
    }

    /// Adds an access token. All tokens have the same header, so only claims and signature are searched for.
    pub fn add_token(&mut self, token: &str) {
        for part in token.split('.').skip(1) {
            self.add("a token", part);
        }
    }

    /// The secrets as lines of text, for another process.
    #[must_use]
    pub fn to_lines(&self) -> String {
        let line = |(what, secret): &(String, Vec<u8>)| format!("{} {what}\n", HEXLOWER.encode(secret));
        self.0.iter().map(line).collect::<Vec<_>>().concat()
    }

    /// Reads what [`Self::to_lines`] wrote.
    ///
    /// # Errors
    /// If the lines have another form.
    pub fn from_lines(lines: &str) -> Result<Self> {
        let secrets = lines.lines().map(|line| -> Result<_> {
            let (secret, what) = line.split_once(' ').context("no secret")?;
            let secret = HEXLOWER.decode(secret.as_bytes()).ok().context("not hexadecimal")?;
            Ok((what.to_owned(), secret))
        });
        Ok(Self(secrets.collect::<Result<_>>()?))
    }

    /// A searcher for all of them.
    ///
    /// # Errors
    /// If a secret is too short, or if there are too many.
    pub fn searcher(&self) -> Result<Searcher> {
        let (mut patterns, mut needles) = (Vec::new(), Vec::new());
        for (what, secret) in &self.0 {
            anyhow::ensure!(secret.len() >= 6, "{what} is too short to be searched for");
            for (form, pattern) in forms(secret) {
                needles.push(Needle {
                    what: what.clone(),
                    form,
                    alone: form == RAW && secret.len() < CHANCE,
                });
                patterns.push(pattern);
            }
        }
        let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&patterns)?;
        Ok(Searcher { automaton, needles })
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

#[derive(Debug)]
struct Needle {
    what: String,
    form: &'static str,
    alone: bool,
}

/// Searches for all secrets in one pass, ignoring case. Its `Debug` does not show them.
pub struct Searcher {
    automaton: AhoCorasick,
    needles: Vec<Needle>,
}

impl fmt::Debug for Searcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Searcher(…)")
    }
}

impl Searcher {
    /// The secrets in a text, each form once.
    #[must_use]
    pub fn find(&self, written: impl AsRef<[u8]>) -> Vec<Found> {
        let written = written.as_ref();
        let mut found: Vec<_> = self
            .automaton
            .find_overlapping_iter(written)
            .filter_map(|hit| {
                let needle = self.needles.get(hit.pattern().as_usize())?;
                let neighbours = [
                    hit.start().checked_sub(1).and_then(|before| written.get(before)),
                    written.get(hit.end()),
                ];
                let in_a_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
                let chance = needle.alone && neighbours.into_iter().flatten().any(in_a_word);
                (!chance).then(|| Found {
                    what: needle.what.clone(),
                    form: needle.form,
                })
            })
            .collect();
        found.sort();
        found.dedup();
        found
    }
}

const RAW: &str = "raw";

/// Every form. Case is ignored, so hexadecimal and base32 are here in one case only.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let url = percent_encode(secret, IN_URLS).to_string();
    let every_byte: String = secret.iter().map(|byte| percent_encode_byte(*byte)).collect();
    let numbers: Vec<String> = secret.iter().map(ToString::to_string).collect();
    let mut forms = vec![
        (RAW, secret.to_vec()),
        ("escaped", secret.escape_ascii().collect()),
        ("hexadecimal", HEXLOWER.encode(secret).into_bytes()),
        ("URL-encoded", url.replace("%20", "+").into_bytes()),
        ("URL-encoded", url.into_bytes()),
        ("URL-encoded, every byte", every_byte.into_bytes()),
        ("numbers", numbers.join(", ").into_bytes()),
        ("numbers", numbers.join(",").into_bytes()),
    ];
    // Digits look the same escaped and in a URL.
    forms.retain(|(form, pattern)| *form == RAW || pattern != secret);
    for before in 0..5 {
        forms.push(("base32", within(&BASE32_NOPAD, 5, before, secret)));
    }
    for before in 0..3 {
        forms.push(("base64", within(&BASE64_NOPAD, 6, before, secret)));
        forms.push(("base64url", within(&BASE64URL_NOPAD, 6, before, secret)));
    }
    forms
}

/// The characters that depend on the secret alone when `before` bytes precede it and any bytes follow.
fn within(encoding: &Encoding, bits: usize, before: usize, secret: &[u8]) -> Vec<u8> {
    let whole = encoding.encode(&[vec![0; before].as_slice(), secret].concat());
    let (first, end) = ((8 * before).div_ceil(bits), 8 * (before + secret.len()) / bits);
    whole.as_bytes().get(first..end).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE32, BASE64, BASE64URL, HEXUPPER};

    use super::*;

    const CODE: &str = "90183746";
    const SEED: [u8; 20] = *b"\x00\xff\x17z9\xe2\"\\\x80k\n\xfeQ\x01\xc3\x9d\x00\x7f\xaa\x55";
    const NAME: &str = "Zo\u{eb} Quixote+otp@example.org";

    fn forms_found(searcher: &Searcher, written: impl AsRef<[u8]>) -> Vec<&'static str> {
        searcher.find(written).into_iter().map(|found| found.form).collect()
    }

    /// What a leak would look like, made by other code than the searcher's.
    fn leaks(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut leaks = vec![
            (RAW, secret.to_vec()),
            ("hexadecimal", HEXLOWER.encode(secret).into_bytes()),
            ("hexadecimal", HEXUPPER.encode(secret).into_bytes()),
            ("numbers", format!("{secret:?}").into_bytes()),
            ("numbers", serde_json::to_vec(secret).unwrap_or_default()),
            (
                "URL-encoded, every byte",
                secret
                    .iter()
                    .flat_map(|byte| format!("%{byte:02x}").into_bytes())
                    .collect(),
            ),
        ];
        // With anything around it, as in `Basic base64(client:secret)` or in a body.
        for (before, after) in [
            ("", ""),
            ("a", "b"),
            ("ab", "cd"),
            ("abc", "z"),
            ("abcd", ""),
            ("{\"otp\":\"", "\"}"),
        ] {
            let whole = [before.as_bytes(), secret, after.as_bytes()].concat();
            leaks.push(("base64", BASE64.encode(&whole).into_bytes()));
            leaks.push(("base64url", BASE64URL.encode(&whole).into_bytes()));
            leaks.push(("base32", BASE32.encode(&whole).into_bytes()));
            leaks.push(("base32", BASE32.encode(&whole).to_lowercase().into_bytes()));
        }
        leaks
    }

    #[test]
    fn a_planted_leak_is_found_in_every_form_wherever_it_is() -> Result<()> {
        for secret in [CODE.as_bytes(), &SEED, NAME.as_bytes()] {
            let mut secrets = Secrets::default();
            secrets.add("it", secret);
            let searcher = secrets.searcher()?;
            for (form, leak) in leaks(secret) {
                let line = [&b"{\"error\":\"x"[..], &leak, b"y\"}"].concat();
                assert!(
                    forms_found(&searcher, &line).contains(&form),
                    "{form}: {}",
                    line.escape_ascii()
                );
            }
            let others: Vec<u8> = secret.iter().map(|byte| byte ^ 1).collect();
            for (form, leak) in leaks(&others) {
                assert_eq!(forms_found(&searcher, &leak), [""; 0], "{form} of something else");
            }
        }
        Ok(())
    }

    #[test]
    fn a_name_is_found_in_a_url_and_in_the_output_of_debug() -> Result<()> {
        let mut secrets = Secrets::default();
        secrets.add("a name", NAME);
        secrets.add("a seed", SEED);
        let searcher = secrets.searcher()?;
        for (form, written) in [
            ("URL-encoded", "?userName=Zo%C3%AB%20Quixote%2Botp%40example.org&x=1"),
            ("URL-encoded", "userName=Zo%c3%ab+Quixote%2botp%40example.org"),
            (
                "escaped",
                r#"Bytes(b"\x00\xff\x17z9\xe2\"\\\x80k\n\xfeQ\x01\xc3\x9d\x00\x7f\xaaU")"#,
            ),
        ] {
            assert!(forms_found(&searcher, written).contains(&form), "{written}");
        }
        Ok(())
    }

    #[test]
    fn a_long_secret_is_found_by_its_beginning_and_a_token_by_its_claims_or_signature() -> Result<()> {
        let mut secrets = Secrets::default();
        secrets.add("a long one", "x".repeat(20) + &"y".repeat(20));
        let (claims, signature) = ("eyJzdWIiOiJzaG9wIn0", "c2lnbmF0dXJlIG9mIGl0");
        secrets.add_token(&format!("eyJhbGciOiJSUzI1NiJ9.{claims}.{signature}"));
        let searcher = secrets.searcher()?;
        assert!(!searcher.find("x".repeat(20) + &"y".repeat(12)).is_empty());
        assert!(searcher.find("eyJhbGciOiJSUzI1NiJ9").is_empty());
        assert!(!searcher.find(claims).is_empty() && !searcher.find(signature).is_empty());
        Ok(())
    }

    #[test]
    fn six_digits_are_found_as_a_word_and_not_within_a_number() -> Result<()> {
        let mut secrets = Secrets::default();
        secrets.add("a code", "523471");
        let searcher = secrets.searcher()?;
        for written in ["\"523471\"", "otp=523471", "523471", "[523471]"] {
            assert_eq!(forms_found(&searcher, written), [RAW], "{written}");
        }
        for written in ["0.523471", "1523471", "523471.25", "a523471"] {
            assert_eq!(forms_found(&searcher, written), [""; 0], "{written}");
        }
        secrets.add("too little", "12345");
        assert!(secrets.searcher().is_err());
        Ok(())
    }

    #[test]
    fn secrets_pass_through_a_file_and_not_through_debug_output() -> Result<()> {
        let mut secrets = Secrets::default();
        secrets.add("a code of a user", CODE);
        secrets.add("a seed", SEED);
        let again = Secrets::from_lines(&secrets.to_lines())?;
        assert_eq!(again.0, secrets.0);
        let searcher = secrets.searcher()?;
        assert!(searcher.find(format!("{secrets:?} {searcher:?}")).is_empty());
        Ok(())
    }
}
