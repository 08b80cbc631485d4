//! PSKC, the Portable Symmetric Key Container (RFC 6030), as vendors of hardware tokens and other systems deliver seeds.
//!
//! Reads TOTP keys, plain (section 4) or encrypted with a pre-shared key (section 6.1) by AES-CBC with a MAC or by AES key
//! wrap. A key with a restriction that the service cannot enforce (section 5), or with anything else that is not in
//! `ELEMENTS`, is refused. The user is the key's `UserId`, else the device's; the device is its `SerialNo`, else the key's
//! `Id`. Signatures (section 7) are not verified: there is no list of trusted signers.
//!
//! Names of elements and attributes are read in any case, because privacyIDEA writes them in lower case.
//!
//! `roxmltree` borrows text from its input; it copies text that has a character reference (`&#65;`) or CDATA, and does not
//! clear the copy. No exporter writes base64 that way.

use std::fmt;

use aes::{Aes128, Aes256};
use aes_kw::{AesKw, AesKwp, KeyInit as _};
use cbc::cipher::block_padding::Iso10126;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use hmac::{Hmac, Mac as _};
use roxmltree::{Document, Node, ParsingOptions};
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use shared::otp::{OtpParameters, Seed, SeedError};
use xmlparser::{ElementEnd, Token, Tokenizer};
use zeroize::Zeroizing;

use super::encodings::bytes_from_base64;
use super::parameters::{self, or_default};

const PSKC: &str = "urn:ietf:params:xml:ns:keyprov:pskc";
/// What the namespaces of the RFC and of its drafts begin with.
const KEYPROV: &str = "urn:ietf:params:xml:ns:keyprov:";
const XMLENC: &str = "http://www.w3.org/2001/04/xmlenc#";
const XMLDSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const XML: &str = "http://www.w3.org/XML/1998/namespace";
const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema-instance";
const TOTP: &str = "urn:ietf:params:xml:ns:keyprov:pskc:totp";
/// As in draft-hoyer-keyprov-pskc-algorithm-profiles-01, section 4.
const DRAFT_TOTP: &str = "urn:ietf:params:xml:ns:keyprov:pskc#totp";
const HOTP: &str = "urn:ietf:params:xml:ns:keyprov:pskc:hotp";
/// The most nodes of a document: elements, texts and comments.
const MOST_NODES: u32 = 4_000_000;
/// The most attributes, namespace declarations included, from the root to an element.
const MOST_ATTRIBUTES: usize = 64;

/// What may be in a document: each element with its attributes and children, read or known to be harmless. The policy has a check
/// of its own.
const ELEMENTS: [(&str, &[&str], &[&str]); 19] = [
    (
        "KeyContainer",
        &["Version", "Id"],
        &["EncryptionKey", "MACMethod", "KeyPackage", "Signature"],
    ),
    ("MACMethod", &["Algorithm"], &["MACKey"]),
    ("MACKey", &["Id", "Type"], &["EncryptionMethod", "CipherData"]),
    ("KeyPackage", &["Id"], &["DeviceInfo", "CryptoModuleInfo", "Key"]),
    (
        "DeviceInfo",
        &[],
        &[
            "Manufacturer",
            "SerialNo",
            "Model",
            "IssueNo",
            "DeviceBinding",
            "StartDate",
            "ExpiryDate",
            "UserId",
        ],
    ),
    ("CryptoModuleInfo", &[], &["Id"]),
    (
        "Key",
        &["Id", "Algorithm"],
        &[
            "Issuer",
            "AlgorithmParameters",
            "FriendlyName",
            "Data",
            "UserId",
            "Policy",
        ],
    ),
    ("AlgorithmParameters", &[], &["Suite", "ResponseFormat"]),
    // Of privacyIDEA; the RFC has a text.
    ("Suite", &["hashalgo"], &[]),
    (
        "ResponseFormat",
        &["Encoding", "Length", "CheckDigits", "CheckDigit"],
        &[],
    ),
    ("Data", &[], &["Secret", "Counter", "Time", "TimeInterval", "TimeDrift"]),
    ("Secret", &[], &["PlainValue", "EncryptedValue", "ValueMAC"]),
    ("Counter", &[], &["PlainValue"]),
    ("Time", &[], &["PlainValue"]),
    ("TimeInterval", &[], &["PlainValue"]),
    ("TimeDrift", &[], &["PlainValue"]),
    ("EncryptedValue", &["Id", "Type"], &["EncryptionMethod", "CipherData"]),
    ("EncryptionMethod", &["Algorithm"], &[]),
    ("CipherData", &[], &["CipherValue"]),
];

/// How a document is read.
#[derive(Clone, Copy, Default)]
pub struct PskcOptions<'a> {
    /// The pre-shared key (section 6.1): 16 bytes for AES-128, 32 bytes for AES-256.
    pub key: Option<&'a [u8]>,
    /// Whether to accept keys with `StartDate` or `ExpiryDate` in their policy, although the service does not enforce them.
    /// Vendors of tokens write the life of the battery there.
    pub allow_dated_keys: bool,
}

impl fmt::Debug for PskcOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PskcOptions")
            .field("allow_dated_keys", &self.allow_dated_keys)
            .finish_non_exhaustive()
    }
}

/// Why a document was refused. Holds nothing of the input but the name of an unknown element or attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PskcError {
    #[error("the file is not well-formed XML (line {line})")]
    NotXml {
        /// Counted from 1.
        line: u32,
    },
    /// A document type definition, which every attack with entities needs.
    #[error("the file has a document type definition (<!DOCTYPE …>): remove it")]
    DocumentType,
    #[error("the file has too many elements: split it")]
    Size,
    #[error("the file has elements with too many attributes")]
    Attributes,
    #[error(
        "the file has the layout of a draft of RFC 6030 (another namespace, or Device instead of KeyPackage), which is not \
         supported: ask its maker for PSKC 1.0 of RFC 6030, or convert it with pskc2pskc of python-pskc"
    )]
    Draft,
    #[error("the key container has {what}, which is unknown and may change its keys: remove it only if it does not")]
    Unknown { what: String },
    /// Another root element, or another namespace.
    #[error("the file is not a PSKC key container (RFC 6030): its root is not KeyContainer in {PSKC}")]
    NotAContainer,
    /// Not version 1.0 (section 4).
    #[error("the version of the key container must be 1.0")]
    Version,
    #[error("the file is encrypted: give its pre-shared key with --pre-shared-key-file")]
    NoKey,
    /// A password (section 6.2) or a certificate (section 6.3).
    #[error("the file is encrypted with a password or a certificate; only a pre-shared key is supported")]
    KeyMethod,
    /// The algorithm of the MAC or of its key is unknown, or the key is only referenced.
    #[error(
        "the file's MACMethod is not supported: it must be HMAC with SHA-1, SHA-256 or SHA-512 and a MACKey in the file"
    )]
    MacMethod,
    #[error("the pre-shared key is not that of this file")]
    WrongKey,
}

/// Why a key was refused. Holds nothing of the input but the name of an unknown element or attribute.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// An element is missing, occurs twice, or has content that RFC 6030 does not allow.
    #[error("the key package does not conform to RFC 6030: {element} is missing, occurs twice, or has wrong content")]
    Malformed {
        /// The element or attribute.
        element: &'static str,
    },
    /// HOTP (RFC 4226).
    #[error("the key is for counter-based codes (HOTP); only time-based codes are supported")]
    CounterBased,
    /// Neither HOTP nor TOTP.
    #[error("the key is not for time-based codes: its Algorithm is not {TOTP}")]
    Algorithm,
    #[error("the key's Suite must be HMAC-SHA1, HMAC-SHA256 or HMAC-SHA512")]
    Suite,
    /// Not in `ELEMENTS`.
    #[error("the key package has {what}, which is unknown and may change its codes: remove it only if it does not")]
    Unknown { what: String },
    #[error("the key's ResponseFormat must be DECIMAL with 6 or 8 digits, without a check digit")]
    ResponseFormat,
    #[error("the key's TimeInterval must be 30 or 60 seconds")]
    TimeInterval,
    /// Time steps that do not begin at the Unix epoch.
    #[error("the key's Time must be 0: otherwise the service would not accept its codes")]
    Time,
    /// `StartDate` or `ExpiryDate` (section 5).
    #[error(
        "the key's Policy has dates, which the service does not enforce: give --allow-dated-keys, or remove the dates"
    )]
    Dated,
    /// Another restriction (section 5).
    #[error(
        "the key's Policy has a restriction (a PIN, a use, a number of transactions) that the service cannot enforce"
    )]
    Policy,
    /// `KeyProfileId` or `KeyReference` instead of a secret (section 4.4).
    #[error("the key's secret is not in the file")]
    NoSecret,
    #[error("the secret's encryption is not supported: it must be AES-128 or AES-256, CBC or key wrap")]
    Cipher,
    #[error("the pre-shared key has the wrong length for the secret's encryption")]
    KeyLength,
    /// AES-CBC without a MAC (section 6.1.1).
    #[error("the secret is encrypted with AES-CBC and has no ValueMAC: it may have been altered")]
    NoMac,
    #[error("the secret cannot be decrypted: the pre-shared key is wrong, or the file was altered")]
    Altered,
    /// The seed.
    #[error(transparent)]
    Seed(#[from] SeedError),
}

/// A key.
pub struct Key {
    /// `UserId`, verbatim: a distinguished name (section 4.3.3) is one name.
    pub user: Option<String>,
    /// `SerialNo`, else the key's `Id`.
    pub device: Option<String>,
    /// `Issuer`.
    pub issuer: Option<String>,
    /// `TimeDrift`: how many steps the token's clock was off when the file was written.
    pub drift: i64,
    /// The seed, with algorithm, digits and period.
    pub seed: Seed,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// Reads a document. Returns a result for each `KeyPackage`, in order.
///
/// # Errors
/// [`PskcError`].
pub fn parse(text: &str, options: PskcOptions<'_>) -> Result<Vec<Result<Key, KeyError>>, PskcError> {
    with_container(text, MOST_NODES, |container| {
        let decryption = Decryption::new(container, options.key)?;
        Ok(packages(container)
            .map(|package| read_package(package, &decryption, options.allow_dated_keys))
            .collect())
    })
}

/// The parser would copy text with other line ends than a line feed (XML 1.0, section 2.11).
fn with_line_feeds(text: &str) -> Zeroizing<String> {
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.split_inclusive("\r\n") {
        match line.strip_suffix("\r\n") {
            Some(line) => {
                plain.push_str(line);
                plain.push('\n');
            }
            None => plain.push_str(line),
        }
    }
    plain
}

fn with_container<T>(
    text: &str,
    most_nodes: u32,
    read: impl FnOnce(Node<'_, '_>) -> Result<T, PskcError>,
) -> Result<T, PskcError> {
    let text = with_line_feeds(text);
    check_tokens(&text)?;
    let options = ParsingOptions {
        allow_dtd: false,
        nodes_limit: most_nodes,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&text, options).map_err(|error| match error {
        roxmltree::Error::DtdDetected => PskcError::DocumentType,
        roxmltree::Error::NodesLimitReached => PskcError::Size,
        other => PskcError::NotXml { line: other.pos().row },
    })?;
    let container = document.root_element();
    let namespace = container.tag_name().namespace().unwrap_or_default();
    if !container.tag_name().name().eq_ignore_ascii_case("KeyContainer") || !namespace.starts_with(KEYPROV) {
        return Err(PskcError::NotAContainer);
    }
    if namespace != PSKC || container.children().any(|child| is_named(child, PSKC, "Device")) {
        return Err(PskcError::Draft);
    }
    if attribute(container, "Version") != Some("1.0") {
        return Err(PskcError::Version);
    }
    // Each key package is checked by itself, and the encryption key where it is read.
    let mut methods = container.children().filter(|child| is_named(*child, PSKC, "MACMethod"));
    match unknown_within(container).or_else(|| methods.find_map(unknown_below)) {
        Some(what) => Err(PskcError::Unknown { what }),
        None => read(container),
    }
}

fn is_named(node: Node<'_, '_>, namespace: &str, name: &str) -> bool {
    node.is_element()
        && node.tag_name().namespace() == Some(namespace)
        && node.tag_name().name().eq_ignore_ascii_case(name)
}

/// An attribute without a namespace.
fn attribute<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    let mut all = node.attributes();
    let found = all.find(|attribute| attribute.namespace().is_none() && attribute.name().eq_ignore_ascii_case(name));
    found.map(|attribute| attribute.value())
}

/// The first attribute or child of an element that is not in [`ELEMENTS`].
fn unknown_within(node: Node<'_, '_>) -> Option<String> {
    let name = node.tag_name().name();
    let known = ELEMENTS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
    let (attributes, children) = known.map_or((&[][..], &[][..]), |(_, attributes, children)| (*attributes, *children));
    let mut seen = Vec::new();
    for attribute in node.attributes() {
        let lower = attribute.name().to_ascii_lowercase();
        let is_known = match attribute.namespace() {
            None => attributes.iter().any(|known| known.eq_ignore_ascii_case(&lower)) && !seen.contains(&lower),
            Some(XML) => true,
            Some(SCHEMA) => lower.ends_with("schemalocation"),
            Some(_) => false,
        };
        if !is_known {
            return Some(format!("the attribute {} of {}", shown(attribute.name()), shown(name)));
        }
        seen.push(lower);
    }
    let is_known = |child: Node<'_, '_>| {
        let namespace = match child.tag_name().name().to_ascii_lowercase().as_str() {
            "encryptionmethod" | "cipherdata" | "ciphervalue" => XMLENC,
            "signature" => XMLDSIG,
            _ => PSKC,
        };
        children.iter().any(|known| is_named(child, namespace, known))
    };
    let unknown = node.children().find(|child| child.is_element() && !is_known(*child))?;
    let unknown = shown(unknown.tag_name().name());
    Some(format!("the element {unknown} in {}", shown(name)))
}

/// As [`unknown_within`], for an element and all that is in it, except a policy.
fn unknown_below(node: Node<'_, '_>) -> Option<String> {
    unknown_within(node).or_else(|| {
        let mut children = node
            .children()
            .filter(|child| child.is_element() && !is_named(*child, PSKC, "Policy"));
        children.find_map(unknown_below)
    })
}

/// A name of XML, which has no control characters and cannot be a seed in the wrong place.
fn shown(name: &str) -> String {
    name.chars().take(64).flat_map(char::escape_debug).collect()
}

/// Refuses documents that take `roxmltree` minutes: it compares each attribute with every other of its element, and each
/// namespace with every other in scope.
fn check_tokens(text: &str) -> Result<(), PskcError> {
    let mut open = Vec::new();
    let (mut before, mut all) = (0, 0);
    for token in Tokenizer::from(text) {
        match token.map_err(|error| PskcError::NotXml { line: error.pos().row })? {
            Token::ElementStart { .. } => before = all,
            Token::Attribute { .. } => all += 1,
            Token::ElementEnd { end, .. } => match end {
                ElementEnd::Open => open.push(before),
                ElementEnd::Empty => all = before,
                ElementEnd::Close(..) => all = open.pop().unwrap_or_default(),
            },
            _ => {}
        }
        if all > MOST_ATTRIBUTES {
            return Err(PskcError::Attributes);
        }
    }
    Ok(())
}

fn packages<'a, 'input>(container: Node<'a, 'input>) -> impl Iterator<Item = Node<'a, 'input>> {
    container.children().filter(|node| is_named(*node, PSKC, "KeyPackage"))
}

/// The keys to the encrypted values of a document.
struct Decryption<'a> {
    key: Option<&'a [u8]>,
    mac: Option<MacMethod>,
}

struct MacMethod {
    hash: MacHash,
    key: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy)]
enum MacHash {
    Sha1,
    Sha256,
    Sha512,
}

impl<'a> Decryption<'a> {
    fn new(container: Node<'_, '_>, key: Option<&'a [u8]>) -> Result<Self, PskcError> {
        if let Some(method) = element(container, "EncryptionKey").map_err(|_| PskcError::KeyMethod)? {
            let mut elements = method.children().filter(Node::is_element);
            if !elements.all(|element| is_named(element, XMLDSIG, "KeyName")) {
                return Err(PskcError::KeyMethod);
            }
        }
        let encrypted = container
            .descendants()
            .any(|node| is_named(node, PSKC, "EncryptedValue"));
        let mut decryption = Self { key, mac: None };
        if !encrypted {
            return Ok(decryption);
        }
        let key = key.ok_or(PskcError::NoKey)?;
        if let Some(method) = element(container, "MACMethod").map_err(|_| PskcError::MacMethod)? {
            let hash = match attribute(method, "Algorithm").unwrap_or_default() {
                "http://www.w3.org/2000/09/xmldsig#hmac-sha1" | "http://www.w3.org/2001/04/xmldsig-more#hmac-sha1" => {
                    MacHash::Sha1
                }
                "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256" => MacHash::Sha256,
                "http://www.w3.org/2001/04/xmldsig-more#hmac-sha512" => MacHash::Sha512,
                _ => return Err(PskcError::MacMethod),
            };
            let malformed = |_| PskcError::MacMethod;
            let key = match element(method, "MACKey").map_err(malformed)? {
                // The MAC covers the values, so it cannot cover its own key.
                Some(encrypted) => {
                    decrypt(&Encrypted::read(encrypted).map_err(malformed)?, key).map_err(|error| match error {
                        KeyError::Cipher => PskcError::MacMethod,
                        _ => PskcError::WrongKey,
                    })?
                }
                // Drafts of the RFC used the encryption key then, and such files still exist.
                None => Zeroizing::new(key.to_vec()),
            };
            decryption.mac = Some(MacMethod { hash, key });
        }
        Ok(decryption)
    }

    /// A `Secret` (section 4.1), plain or encrypted.
    fn secret(&self, secret: Node<'_, '_>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        const SECRET: KeyError = KeyError::Malformed { element: "Secret" };
        let mac = element(secret, "ValueMAC")?;
        match (element(secret, "PlainValue")?, element(secret, "EncryptedValue")?) {
            (Some(plain), None) if mac.is_none() => {
                bytes_from_base64(text_of(plain).ok_or(SECRET)?).map_err(|_| SECRET)
            }
            (None, Some(encrypted)) => {
                let encrypted = Encrypted::read(encrypted)?;
                match (mac, &self.mac, encrypted.cipher) {
                    (Some(mac), Some(method), _) => {
                        let mac = bytes_from_base64(text_of(mac).ok_or(SECRET)?).map_err(|_| SECRET)?;
                        if !method.verify(&encrypted.bytes, &mac) {
                            return Err(KeyError::Altered);
                        }
                    }
                    // Key wrap authenticates what it encrypts (RFC 3394, section 2.2.3).
                    (None, _, Cipher::KeyWrap | Cipher::KeyWrapWithPadding) => {}
                    _ => return Err(KeyError::NoMac),
                }
                decrypt(&encrypted, self.key.ok_or(KeyError::Altered)?)
            }
            _ => Err(SECRET),
        }
    }
}

impl MacMethod {
    /// The MAC covers the decoded `CipherValue`, including the initialisation vector (section 6.1.1).
    fn verify(&self, message: &[u8], mac: &[u8]) -> bool {
        macro_rules! verify {
            ($hash:ty) => {
                Hmac::<$hash>::new_from_slice(&self.key)
                    .is_ok_and(|hmac| hmac.chain_update(message).verify_slice(mac).is_ok())
            };
        }
        match self.hash {
            MacHash::Sha1 => verify!(Sha1),
            MacHash::Sha256 => verify!(Sha256),
            MacHash::Sha512 => verify!(Sha512),
        }
    }
}

#[derive(Clone, Copy)]
enum Cipher {
    Cbc,
    KeyWrap,
    KeyWrapWithPadding,
}

/// An `EncryptedValue` or a `MACKey` (XML Encryption, `EncryptedDataType`).
struct Encrypted {
    cipher: Cipher,
    key_length: usize,
    bytes: Zeroizing<Vec<u8>>,
}

impl Encrypted {
    fn read(node: Node<'_, '_>) -> Result<Self, KeyError> {
        const CIPHER_DATA: KeyError = KeyError::Malformed { element: "CipherData" };
        let method = only_child(node, XMLENC, "EncryptionMethod")?.and_then(|method| attribute(method, "Algorithm"));
        let (cipher, key_length) = match method.unwrap_or_default() {
            "http://www.w3.org/2001/04/xmlenc#aes128-cbc" => (Cipher::Cbc, 16),
            "http://www.w3.org/2001/04/xmlenc#aes256-cbc" => (Cipher::Cbc, 32),
            "http://www.w3.org/2001/04/xmlenc#kw-aes128" => (Cipher::KeyWrap, 16),
            "http://www.w3.org/2001/04/xmlenc#kw-aes256" => (Cipher::KeyWrap, 32),
            "http://www.w3.org/2009/xmlenc11#kw-aes-128-pad" => (Cipher::KeyWrapWithPadding, 16),
            "http://www.w3.org/2009/xmlenc11#kw-aes-256-pad" => (Cipher::KeyWrapWithPadding, 32),
            _ => return Err(KeyError::Cipher),
        };
        let data = only_child(node, XMLENC, "CipherData")?.ok_or(CIPHER_DATA)?;
        let value = only_child(data, XMLENC, "CipherValue")?
            .and_then(text_of)
            .ok_or(CIPHER_DATA)?;
        Ok(Self {
            cipher,
            key_length,
            bytes: bytes_from_base64(value).map_err(|_| CIPHER_DATA)?,
        })
    }
}

fn decrypt(encrypted: &Encrypted, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let bytes = encrypted.bytes.as_slice();
    let mut buffer = Zeroizing::new(vec![0; bytes.len()]);
    macro_rules! with {
        ($aes:ty) => {
            match encrypted.cipher {
                Cipher::Cbc => {
                    // The vector precedes the text (XML Encryption 1.1, section 5.2). Only the last byte of the padding is
                    // defined (section 5.2.1), so PKCS #7 would refuse some texts.
                    let (vector, text) = bytes.split_at_checked(16).ok_or(KeyError::Altered)?;
                    let cbc = cbc::Decryptor::<$aes>::new_from_slices(key, vector).map_err(|_| KeyError::KeyLength)?;
                    cbc.decrypt_padded_b2b::<Iso10126>(text, &mut buffer)
                        .map_err(|_| KeyError::Altered)?
                        .len()
                }
                Cipher::KeyWrap => {
                    let wrap = AesKw::<$aes>::new_from_slice(key).map_err(|_| KeyError::KeyLength)?;
                    wrap.unwrap_key(bytes, &mut buffer)
                        .map_err(|_| KeyError::Altered)?
                        .len()
                }
                Cipher::KeyWrapWithPadding => {
                    let wrap = AesKwp::<$aes>::new_from_slice(key).map_err(|_| KeyError::KeyLength)?;
                    wrap.unwrap_key(bytes, &mut buffer)
                        .map_err(|_| KeyError::Altered)?
                        .len()
                }
            }
        };
    }
    let length = if encrypted.key_length == 16 {
        with!(Aes128)
    } else {
        with!(Aes256)
    };
    buffer.truncate(length);
    Ok(buffer)
}

fn read_package(package: Node<'_, '_>, decryption: &Decryption<'_>, allow_dated_keys: bool) -> Result<Key, KeyError> {
    let key = element(package, "Key")?.ok_or(KeyError::Malformed { element: "Key" })?;
    match attribute(key, "Algorithm") {
        Some(TOTP | DRAFT_TOTP) => {}
        Some(HOTP) => return Err(KeyError::CounterBased),
        _ => return Err(KeyError::Algorithm),
    }
    if let Some(policy) = element(key, "Policy")? {
        check_policy(policy, allow_dated_keys)?;
    }
    let data = element(key, "Data")?.ok_or(KeyError::NoSecret)?;
    let (parameters, drift) = read_parameters(key, data)?;
    let secret = element(data, "Secret")?.ok_or(KeyError::NoSecret)?;
    if let Some(what) = unknown_below(package) {
        return Err(KeyError::Unknown { what });
    }
    let device = element(package, "DeviceInfo")?;
    let device_text = |name| device.map_or(Ok(None), |device| optional_text(device, name));
    let user = optional_text(key, "UserId")?.or(device_text("UserId")?);
    let id = attribute(key, "Id").map(str::trim).filter(|id| !id.is_empty());
    Ok(Key {
        user: user.map(str::to_owned),
        device: device_text("SerialNo")?.or(id).map(str::to_owned),
        issuer: optional_text(key, "Issuer")?.map(str::to_owned),
        drift,
        seed: Seed::from_bytes(&decryption.secret(secret)?, parameters)?,
    })
}

/// A key with an unknown policy must not be used (section 5).
fn check_policy(policy: Node<'_, '_>, allow_dated_keys: bool) -> Result<(), KeyError> {
    let mut uses = Vec::new();
    for restriction in policy.children().filter(Node::is_element) {
        if restriction.tag_name().namespace() != Some(PSKC) || restriction.attributes().next().is_some() {
            return Err(KeyError::Policy);
        }
        match restriction.tag_name().name().to_ascii_lowercase().as_str() {
            "startdate" | "expirydate" if allow_dated_keys => {}
            "startdate" | "expirydate" => return Err(KeyError::Dated),
            "keyusage" => uses.push(text_of(restriction)),
            _ => return Err(KeyError::Policy),
        }
    }
    if uses.is_empty() || uses.contains(&Some("OTP")) {
        Ok(())
    } else {
        Err(KeyError::Policy)
    }
}

/// Suite and response format (section 4.3.4), time interval, start, and the drift by itself (section 4.1).
fn read_parameters(key: Node<'_, '_>, data: Node<'_, '_>) -> Result<(OtpParameters, i64), KeyError> {
    let algorithm_parameters = element(key, "AlgorithmParameters")?.ok_or(KeyError::ResponseFormat)?;
    let suite = element(algorithm_parameters, "Suite")?.and_then(|suite| attribute(suite, "hashalgo"));
    let algorithm = match (optional_text(algorithm_parameters, "Suite")?, suite) {
        (Some(_), Some(_)) => None,
        (text, suite) => or_default(text.or(suite), parameters::algorithm),
    };
    let algorithm = algorithm.ok_or(KeyError::Suite)?;
    let format = element(algorithm_parameters, "ResponseFormat")?.ok_or(KeyError::ResponseFormat)?;
    let no_check_digit = |name| matches!(attribute(format, name), None | Some("false" | "0"));
    if attribute(format, "Encoding") != Some("DECIMAL")
        || !no_check_digit("CheckDigits")
        || !no_check_digit("CheckDigit")
    {
        return Err(KeyError::ResponseFormat);
    }
    let digits = attribute(format, "Length")
        .and_then(parameters::digits)
        .ok_or(KeyError::ResponseFormat)?;
    let plain = |name: &'static str| -> Result<Option<&str>, KeyError> {
        let malformed = KeyError::Malformed { element: name };
        let Some(value) = element(data, name)? else {
            return Ok(None);
        };
        optional_text(value, "PlainValue")?.ok_or(malformed).map(Some)
    };
    let period = or_default(plain("TimeInterval")?, parameters::period).ok_or(KeyError::TimeInterval)?;
    if plain("Time")?.is_some_and(|time| parameters::number(time) != Some(0)) {
        return Err(KeyError::Time);
    }
    let drift = plain("TimeDrift")?.map_or(Ok(0), str::parse);
    let drift = drift.map_err(|_| KeyError::Malformed { element: "TimeDrift" })?;
    let parameters = OtpParameters {
        algorithm,
        digits,
        period,
    };
    Ok((parameters, drift))
}

/// The only child with a name; two are an error, because readers differ in which one they use.
fn only_child<'a, 'input>(
    node: Node<'a, 'input>,
    namespace: &str,
    name: &'static str,
) -> Result<Option<Node<'a, 'input>>, KeyError> {
    let mut named = node.children().filter(|child| is_named(*child, namespace, name));
    match (named.next(), named.next()) {
        (first, None) => Ok(first),
        _ => Err(KeyError::Malformed { element: name }),
    }
}

fn element<'a, 'input>(node: Node<'a, 'input>, name: &'static str) -> Result<Option<Node<'a, 'input>>, KeyError> {
    only_child(node, PSKC, name)
}

/// The text of an element without other content, without outer white space.
fn text_of<'a>(node: Node<'a, '_>) -> Option<&'a str> {
    let mut children = node.children();
    match (children.next(), children.next()) {
        (None, None) => Some(""),
        (Some(text), None) if text.is_text() => text.text().map(str::trim),
        _ => None,
    }
}

/// The text of the only child with a name; `None` if it is missing or empty.
fn optional_text<'a>(node: Node<'a, '_>, name: &'static str) -> Result<Option<&'a str>, KeyError> {
    let Some(child) = element(node, name)? else {
        return Ok(None);
    };
    let text = text_of(child).ok_or(KeyError::Malformed { element: name })?;
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests;
