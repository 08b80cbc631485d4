//! Names, parsed once at the edge: after that, no function takes a raw string for one of them.
//!
//! Names are compared exactly, case kept, after Unicode NFC (UAX #15), so that one name typed in two encodings is one
//! name. They are personal data: their `Debug` does not show them.

use std::collections::BTreeMap;
use std::fmt;

use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;
use zeroize::Zeroize;

/// Why a name was refused. The client's text for it is fixed and holds no input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty, or more characters than allowed after NFC.
    #[error("the name is empty or too long")]
    Length,
    /// A control character (Unicode category Cc).
    #[error("the name has a control character")]
    Control,
    /// White space at the beginning or the end: refused, never trimmed.
    #[error("the name begins or ends with white space")]
    OuterWhiteSpace,
    /// A character that has a meaning in a key.
    #[error("the name has a character that is not allowed in it")]
    Character,
}

fn parse_name(raw: &str, longest: usize) -> Result<String, NameError> {
    let name: String = raw.nfc().collect();
    if name.is_empty() || name.chars().count() > longest {
        return Err(NameError::Length);
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control);
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Err(NameError::OuterWhiteSpace);
    }
    Ok(name)
}

/// A person with an authenticator app, by the client's name for them: 1–128 characters after NFC.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserName(String);

impl UserName {
    /// The longest user name, in characters.
    pub const LONGEST: usize = 128;

    /// Normalises and checks a name.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, has a control character, or begins or ends with white space.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        parse_name(raw, Self::LONGEST).map(Self)
    }

    /// The name in NFC.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserName(…)")
    }
}

/// A registered authenticator of a user, by the client's name for it: 1–64 characters after NFC.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct DeviceName(String);

impl DeviceName {
    /// The longest device name, in characters.
    pub const LONGEST: usize = 64;

    /// Normalises and checks a name.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, has a control character, or begins or ends with white space.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        parse_name(raw, Self::LONGEST).map(Self)
    }

    /// The name in NFC.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceName(…)")
    }
}

/// An application with credentials: the `client_id` of its access token, 1–128 visible ASCII characters without `#`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// The longest client id, in characters.
    pub const LONGEST: usize = 128;

    /// Checks a client id. `#` is refused because it ends the client's part of a device's key.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long, or has another character.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        if raw.is_empty() || raw.len() > Self::LONGEST {
            return Err(NameError::Length);
        }
        if raw.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            Ok(Self(raw.to_owned()))
        } else {
            Err(NameError::Character)
        }
    }

    /// The client id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whom devices belong to: by default the client that registers them, or what several clients that act for one share. A name
/// like a client id, so that either can be the client's part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(ClientId);

impl Owner {
    /// Checks the name of an owner.
    ///
    /// # Errors
    /// [`NameError`], as for a client id.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        ClientId::parse(raw).map(Self)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl From<&ClientId> for Owner {
    fn from(client: &ClientId) -> Self {
        Self(client.clone())
    }
}

impl From<&Self> for Owner {
    fn from(owner: &Self) -> Self {
        owner.clone()
    }
}

impl From<ClientId> for Owner {
    fn from(client: ClientId) -> Self {
        Self(client)
    }
}

/// Which owner a client acts for, if not for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientOwners(BTreeMap<String, Owner>);

impl ClientOwners {
    /// From `clientId=owner` pairs between commas, such as `settings=bank,sign-in=bank`. Empty for none.
    ///
    /// # Errors
    /// [`NameError`] if there is something else in it, or a client twice.
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        let mut owners = BTreeMap::new();
        // An equals sign in a name would make two readings of a pair.
        for pair in raw.split(',').filter(|_| !raw.is_empty()) {
            let (client, owner) = pair.split_once('=').ok_or(NameError::Character)?;
            let client = ClientId::parse(client)?;
            if owner.contains('=') {
                return Err(NameError::Character);
            }
            if owners.insert(client.0, Owner::parse(owner)?).is_some() {
                return Err(NameError::Character);
            }
        }
        Ok(Self(owners))
    }

    /// The owner that a client acts for: itself, unless said otherwise.
    #[must_use]
    pub fn owner_of(&self, client: &ClientId) -> Owner {
        self.0
            .get(client.as_str())
            .cloned()
            .unwrap_or_else(|| Owner(client.clone()))
    }
}

/// The key of a device: the same names under two owners are two devices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceKey {
    /// Whom the device belongs to.
    pub owner: Owner,
    /// The user who holds it.
    pub user: UserName,
    /// Its name.
    pub device: DeviceName,
}

/// The id of an auth, issued by step 2 and sent with step 3: a version 4 UUID (RFC 9562, section 5.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthId(Uuid);

impl AuthId {
    /// From 16 bytes of the system's generator, of which 122 bits are kept.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// From the hyphenated form; letters in either case (RFC 9562, section 4).
    ///
    /// `None` for every other form, another version or another variant: this service never issued one of those.
    #[must_use]
    pub fn parse(raw: &str) -> Option<Self> {
        let hyphenated = raw.len() == uuid::fmt::Hyphenated::LENGTH;
        let id = hyphenated.then(|| Uuid::try_parse(raw).ok()).flatten()?;
        (id.get_version() == Some(uuid::Version::Random) && id.get_variant() == uuid::Variant::RFC4122)
            .then_some(Self(id))
    }

    /// The 16 bytes of the UUID, as they are stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// From the 16 bytes as they are stored.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for AuthId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// Identity of one invocation's write: 16 bytes from the system's generator, never from the event or the context,
/// which a caller can choose.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriteId([u8; 16]);

impl WriteId {
    /// From 16 bytes of the system's generator, or as they are stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes, as they are stored.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Debug for WriteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriteId({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Where a device's seed is. Its random part makes each name new, so that a device that is registered again never uses an
/// earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SeedRef {
    /// In a secret of its own.
    Secret(SecretVersion),
    /// Sealed beside the device.
    Sealed(SealedId),
}

/// The name of a secret and the id of one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretVersion {
    name: String,
    version: String,
}

impl SecretVersion {
    /// From the two parts.
    ///
    /// # Errors
    /// [`NameError`] if one is empty or longer than 512 characters, or has a character outside visible ASCII or the
    /// separator of the written form.
    pub fn new(name: &str, version: &str) -> Result<Self, NameError> {
        for part in [name, version] {
            if part.is_empty() || part.len() > 512 {
                return Err(NameError::Length);
            }
            if !part.chars().all(|c| c.is_ascii_graphic() && c != SeedRef::SEPARATOR) {
                return Err(NameError::Character);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// The name of the secret.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the secret's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// Identity of a sealed seed, drawn at its registration. It stays when the seed is sealed again under another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SealedId([u8; 16]);

impl SealedId {
    /// From 16 bytes of the system's generator.
    #[must_use]
    pub const fn from_random_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl SeedRef {
    /// Between the two parts of a secret's written form; neither may contain it.
    const SEPARATOR: char = '#';
    /// What the written form of a sealed seed begins with. Releases that know only secrets refuse it, since it has no
    /// [`Self::SEPARATOR`].
    const SEALED: &str = "sealed/";

    /// A secret's version, from its two parts.
    ///
    /// # Errors
    /// As [`SecretVersion::new`].
    pub fn new(name: &str, version: &str) -> Result<Self, NameError> {
        SecretVersion::new(name, version).map(Self::Secret)
    }

    /// From the written form: `name#version`, or `sealed/` and 32 lower-case hexadecimal digits.
    ///
    /// # Errors
    /// As [`SeedRef::new`].
    pub fn parse(raw: &str) -> Result<Self, NameError> {
        if let Some((name, version)) = raw.split_once(Self::SEPARATOR) {
            return Self::new(name, version);
        }
        let digits = raw.strip_prefix(Self::SEALED).ok_or(NameError::Character)?;
        let bytes = data_encoding::HEXLOWER.decode(digits.as_bytes());
        let bytes = bytes.map_err(|_| NameError::Character)?;
        let bytes = bytes.try_into().map_err(|_| NameError::Length)?;
        Ok(Self::Sealed(SealedId(bytes)))
    }

    /// The secret that it is in, if it is in one.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretVersion> {
        match self {
            Self::Secret(secret) => Some(secret),
            Self::Sealed(_) => None,
        }
    }
}

impl fmt::Display for SeedRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(SecretVersion { name, version }) => write!(f, "{name}{}{version}", Self::SEPARATOR),
            Self::Sealed(id) => write!(f, "{}{}", Self::SEALED, data_encoding::HEXLOWER.encode(&id.0)),
        }
    }
}

/// The name of a new secret: `<prefix>/seed/<32 hex digits>`. It holds no personal data, and does not end in a hyphen
/// and six characters, which Secrets Manager would mistake for its own suffix.
#[must_use]
pub fn seed_name(prefix: &str, mut random: [u8; 16]) -> String {
    let name = format!("{prefix}/seed/{}", data_encoding::HEXLOWER.encode(&random));
    random.zeroize();
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_compared_in_nfc_with_its_case() {
        assert_eq!(UserName::parse("Jose\u{301}"), UserName::parse("Jos\u{e9}"));
        assert_ne!(UserName::parse("bob"), UserName::parse("BOB"));
        assert_eq!(
            UserName::parse("me+tag@example.com").map(|name| name.0).as_deref(),
            Ok("me+tag@example.com")
        );
    }

    #[test]
    fn the_length_of_a_name_counts_characters_after_nfc() {
        assert!(UserName::parse(&"\u{65e5}".repeat(128)).is_ok());
        assert!(UserName::parse(&"e\u{301}".repeat(128)).is_ok());
        assert_eq!(UserName::parse(&"x".repeat(129)), Err(NameError::Length));
        assert_eq!(UserName::parse(""), Err(NameError::Length));
        assert!(DeviceName::parse(&"x".repeat(64)).is_ok());
        assert_eq!(DeviceName::parse(&"x".repeat(65)), Err(NameError::Length));
    }

    #[test]
    fn control_characters_and_outer_white_space_are_refused() {
        for raw in ["a\0b", "a\nb", "\u{7f}a", "a\u{85}b"] {
            assert_eq!(UserName::parse(raw), Err(NameError::Control), "{raw:?}");
        }
        for raw in [" a", "a ", "\u{a0}a", "a\u{3000}", "\u{2028}a"] {
            assert_eq!(DeviceName::parse(raw), Err(NameError::OuterWhiteSpace), "{raw:?}");
        }
        assert!(DeviceName::parse("my device").is_ok());
    }

    #[test]
    fn a_client_id_cannot_form_another_clients_key() {
        assert!(ClientId::parse("3n4b5urk1ft4fl3mg5e62d9ado").is_ok());
        for raw in ["", "a#b", "a b", "a\n", "é"] {
            assert!(ClientId::parse(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn each_part_of_a_seed_reference_has_1_to_512_characters() {
        let longest = "x".repeat(512);
        assert!(SeedRef::new(&longest, &longest).is_ok());
        for wrong in [String::new(), "x".repeat(513)] {
            assert_eq!(SeedRef::new(&wrong, "v"), Err(NameError::Length));
            assert_eq!(SeedRef::new("n", &wrong), Err(NameError::Length));
            assert_eq!(SeedRef::parse(&format!("{wrong}#v")), Err(NameError::Length));
        }
    }

    #[test]
    fn an_auth_id_has_one_form_and_one_version() {
        let id = AuthId::from_random_bytes([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(AuthId::parse(&id.to_string()), Some(id));
        assert_eq!(AuthId::parse(&id.to_string().to_uppercase()), Some(id));
        for raw in [
            "",
            "0063f27c-787b-1046-8b8e-a75e241b5ea6",
            "0063f27c-787b-4046-cb8e-a75e241b5ea6",
            "0063f27c787b40468b8ea75e241b5ea6",
            "{0063f27c-787b-4046-8b8e-a75e241b5ea6}",
            "urn:uuid:0063f27c-787b-4046-8b8e-a75e241b5ea6",
            "0063f27c-787b-4046-8b8e-a75e241b5ea6 ",
            "%30063f27c-787b-4046-8b8e-a75e241b5ea6",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(AuthId::parse(raw), None, "{raw:?}");
        }
    }

    #[test]
    fn a_seed_reference_survives_its_written_form() -> Result<(), NameError> {
        let reference = SeedRef::new("mfa/seed/00ff", "11111111-2222-4333-8444-555555555555")?;
        assert_eq!(SeedRef::parse(&reference.to_string())?, reference);
        assert!(SeedRef::parse("no-version").is_err());
        assert!(SeedRef::parse("two#versions#here").is_err());

        let sealed = SeedRef::Sealed(SealedId([0xfe; 16]));
        assert_eq!(sealed.to_string(), format!("sealed/{}", "fe".repeat(16)));
        assert_eq!(
            (SeedRef::parse(&sealed.to_string())?, sealed.secret()),
            (sealed.clone(), None)
        );
        for wrong in [
            "sealed/",
            "sealed/00",
            &format!("sealed/{}", "FE".repeat(16)),
            &format!("{sealed}00"),
        ] {
            assert!(SeedRef::parse(wrong).is_err(), "{wrong}");
        }
        // Whoever may write a secret's name cannot make it a sealed seed, or the other way round.
        assert!(SeedRef::parse(&format!("{sealed}#1"))?.secret().is_some());
        Ok(())
    }

    #[test]
    fn names_of_people_are_not_in_debug_output() {
        let shown = format!("{:?}{:?}", UserName::parse("alice"), DeviceName::parse("phone"));
        assert!(!shown.contains("alice") && !shown.contains("phone"), "{shown}");
    }
}
