//! The settings of the functions, and the only reader of the environment.
//!
//! Errors name the variable and never show its value. Credentials are not here: the SDK reads those itself.

#[cfg(feature = "registry")]
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::names::ClientOwners;
#[cfg(feature = "registry")]
use crate::otpauth::Issuer;
use crate::policy::{Policy, PolicyError};
#[cfg(feature = "registry")]
use crate::registration::Limits;
#[cfg(feature = "registry")]
use crate::sealed::SeedStorage;

/// Name of the table of auths.
pub const AUTHS_TABLE: &str = "AUTHS_TABLE";
/// Name of the table of devices.
pub const DEVICES_TABLE: &str = "DEVICES_TABLE";
/// What the names of seeds begin with, without the slash after it.
pub const SEED_PREFIX: &str = "SEED_PREFIX";
/// How long an authId lives, in seconds: 180–600, 300 by default.
pub const AUTH_LIFE_SECONDS: &str = "AUTH_LIFE_SECONDS";
/// How long a seed may stay in memory, in seconds: 0–3600, 300 by default.
pub const SEED_CACHE_SECONDS: &str = "SEED_CACHE_SECONDS";
/// Where new seeds are kept: `secrets` (by default) or `sealed`.
pub const SEED_STORAGE: &str = "SEED_STORAGE";
/// The secret that is the key ring, by its ARN or name.
pub const KEY_RING: &str = "KEY_RING";
/// KMS key that encrypts new seeds; by default the account's own for Secrets Manager.
pub const SEED_KEY: &str = "SEED_KEY";
/// Tags of new seeds, as `key=value` pairs between commas; none by default.
pub const SEED_TAGS: &str = "SEED_TAGS";
/// Issuer that authenticator apps show for a new device.
pub const ISSUER: &str = "ISSUER";
/// Active or disabled devices that a user may have: 1–50, 10 by default.
pub const DEVICES_PER_USER: &str = "DEVICES_PER_USER";
/// Devices of a user that were never active: 1–50, 5 by default.
pub const UNFINISHED_PER_USER: &str = "UNFINISHED_PER_USER";
/// Life of a registration's authId in seconds: 300–3600, 600 by default.
pub const REGISTRATION_LIFE_SECONDS: &str = "REGISTRATION_LIFE_SECONDS";
/// Which owner's devices a client uses, as `clientId=owner` pairs between commas; a client that is not named has its own.
pub const CLIENT_OWNERS: &str = "CLIENT_OWNERS";
/// Key of the hash that stands for a device in the log: at least 16 characters.
pub const DEVICE_HASH_KEY: &str = "DEVICE_HASH_KEY";
/// `standard` (by default), `strict` or `custom`.
pub const GUESS_POLICY: &str = "GUESS_POLICY";
/// With `custom`: the burst of wrong single codes, 6–50.
pub const GUESS_BURST: &str = "GUESS_BURST";
/// With `custom`: hours until one more is allowed, 1–1440.
pub const GUESS_REFILL_HOURS: &str = "GUESS_REFILL_HOURS";
/// With `custom`: seconds between wrong pairs, 1–60.
pub const GUESS_PAIR_GAP_SECONDS: &str = "GUESS_PAIR_GAP_SECONDS";

/// Why the settings were refused. The function does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable that has no default is not set, or empty.
    #[error("{0} is not set")]
    Missing(&'static str),
    /// A variable has a value outside its range.
    #[error("{name} must be {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// What it may be.
        expected: &'static str,
    },
    /// Someone who guesses chooses among the devices of a user.
    #[error(
        "DEVICES_PER_USER times the odds of the policy is {0:.1e} a year, which is above 1e-2: fewer devices, or a stricter \
             policy"
    )]
    TooManyDevices(f64),
    /// The numbers of the policy are out of range or too weak together. Its text is part of this one's, so it is not
    /// the source as well, which would print it twice.
    #[error("GUESS_POLICY and its numbers: {0}")]
    Policy(PolicyError),
}

/// A source of settings: the environment, or a map in tests and tools.
pub trait Source {
    /// The value of a variable; `None` if it is not set or not Unicode.
    fn get(&self, name: &str) -> Option<String>;
}

/// The environment of the process.
#[derive(Debug, Clone, Copy)]
pub struct Environment;

impl Source for Environment {
    #[expect(clippy::disallowed_methods, reason = "the only read of the environment")]
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

/// The file with the root certificates that the stores' certificates are checked against, in the variable that TLS
/// libraries read. `None` if it is not set.
pub fn certificate_file(source: &impl Source) -> Option<PathBuf> {
    source.get("SSL_CERT_FILE").map(PathBuf::from)
}

impl<S: std::hash::BuildHasher> Source for std::collections::HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

impl Source for std::collections::BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// Where a function finds AWS, in the variables that AWS's SDKs read; Lambda sets the region.
///
/// The SDK could read them itself, but then also looks for profiles, roles and metadata services that no function has:
/// docs/decisions/0017.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsConfig {
    /// `AWS_REGION`.
    pub region: String,
    /// `AWS_ENDPOINT_URL_DYNAMODB`, or else `AWS_ENDPOINT_URL`, if `DynamoDB` is not where AWS has it.
    pub dynamodb_url: Option<String>,
    /// `AWS_ENDPOINT_URL_SECRETS_MANAGER`, or else `AWS_ENDPOINT_URL`.
    pub secrets_manager_url: Option<String>,
    /// `AWS_USE_FIPS_ENDPOINT`: endpoints with validated cryptography.
    pub fips: bool,
    /// `AWS_USE_DUALSTACK_ENDPOINT`: endpoints with IPv6 as well.
    pub dual_stack: bool,
    /// [`certificate_file`].
    pub certificates: Option<PathBuf>,
}

impl AwsConfig {
    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`], which names the first variable that is missing or is not what it must be.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let url = |name| optional(source, name).or_else(|| optional(source, "AWS_ENDPOINT_URL"));
        Ok(Self {
            region: required(source, "AWS_REGION")?,
            dynamodb_url: url("AWS_ENDPOINT_URL_DYNAMODB"),
            secrets_manager_url: url("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
            fips: switch(source, "AWS_USE_FIPS_ENDPOINT")?,
            dual_stack: switch(source, "AWS_USE_DUALSTACK_ENDPOINT")?,
            certificates: certificate_file(source),
        })
    }
}

/// `true` or `false` in any case, as AWS's SDKs read them; `false` by default.
fn switch(source: &impl Source, name: &'static str) -> Result<bool, ConfigError> {
    match optional(source, name)
        .map(|value| value.to_ascii_lowercase())
        .as_deref()
    {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(ConfigError::Invalid {
            name,
            expected: "true or false",
        }),
    }
}

/// A key for [`crate::telemetry::DeviceHasher`]. Its `Debug` does not show it.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct HashKey(String);

impl HashKey {
    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// The settings that every function has.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Name of the table of auths.
    pub auths_table: String,
    /// Name of the table of devices.
    pub devices_table: String,
    /// Which owner each client acts for.
    pub client_owners: ClientOwners,
    /// The limits on guessing.
    pub policy: Policy,
    /// Key of the hash that stands for a device in the log.
    pub device_hash_key: HashKey,
}

impl ServiceConfig {
    /// Every variable that it reads.
    pub const VARIABLES: [&str; 8] = [
        CLIENT_OWNERS,
        AUTHS_TABLE,
        DEVICES_TABLE,
        DEVICE_HASH_KEY,
        GUESS_POLICY,
        GUESS_BURST,
        GUESS_REFILL_HOURS,
        GUESS_PAIR_GAP_SECONDS,
    ];

    fn read(source: &impl Source) -> Result<Self, ConfigError> {
        Ok(Self {
            auths_table: required(source, AUTHS_TABLE)?,
            devices_table: required(source, DEVICES_TABLE)?,
            policy: policy(source)?,
            client_owners: client_owners(source)?,
            device_hash_key: device_hash_key(source)?,
        })
    }
}

/// The settings of `init-auth`.
#[derive(Debug, Clone)]
pub struct InitAuthConfig {
    /// Those that every function has.
    pub service: ServiceConfig,
    /// How long an authId lives, unless four periods of the device are longer.
    pub auth_life: Duration,
}

impl InitAuthConfig {
    /// Every variable that it reads besides [`ServiceConfig::VARIABLES`].
    pub const VARIABLES: [&str; 1] = [AUTH_LIFE_SECONDS];

    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`], which names the first variable that is missing or out of range.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        Ok(Self {
            service: ServiceConfig::read(source)?,
            auth_life: auth_life(source)?,
        })
    }
}

/// The settings of `validate-otp`.
#[derive(Debug, Clone)]
pub struct ValidateOtpConfig {
    /// Those that every function has.
    pub service: ServiceConfig,
    /// The secret that is the key ring.
    pub key_ring: String,
    /// How long a seed may stay in memory.
    pub seed_cache: Duration,
}

impl ValidateOtpConfig {
    /// Every variable that it reads besides [`ServiceConfig::VARIABLES`].
    pub const VARIABLES: [&str; 2] = [KEY_RING, SEED_CACHE_SECONDS];

    /// Reads and checks every setting.
    ///
    /// # Errors
    /// [`ConfigError`], which names the first variable that is missing or out of range.
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        Ok(Self {
            service: ServiceConfig::read(source)?,
            key_ring: required(source, KEY_RING)?,
            seed_cache: seed_cache(source)?,
        })
    }
}

/// Settings of `manage-devices`.
#[cfg(feature = "registry")]
#[derive(Debug, Clone)]
pub struct ManageDevicesConfig {
    /// What all functions share.
    pub service: ServiceConfig,
    /// What the names of new seeds begin with.
    pub seed_prefix: String,
    /// The KMS key that encrypts new seeds, if not the account's own.
    pub seed_key: Option<String>,
    /// Where new seeds are kept.
    pub seed_storage: SeedStorage,
    /// The secret that is the key ring.
    pub key_ring: String,
    /// How long the key ring may stay in memory.
    pub seed_cache: Duration,
    /// Tags of new seeds.
    pub seed_tags: BTreeMap<String, String>,
    /// What an authenticator app shows as the issuer, unless a request says otherwise.
    pub issuer: Issuer,
    /// How many devices a user may have.
    pub limits: Limits,
    /// How long the authId of a registration lives.
    pub registration_life: Duration,
}

#[cfg(feature = "registry")]
impl ManageDevicesConfig {
    /// The variables that only this function reads.
    pub const VARIABLES: [&str; 10] = [
        SEED_PREFIX,
        SEED_KEY,
        SEED_STORAGE,
        KEY_RING,
        SEED_CACHE_SECONDS,
        SEED_TAGS,
        ISSUER,
        DEVICES_PER_USER,
        UNFINISHED_PER_USER,
        REGISTRATION_LIFE_SECONDS,
    ];

    /// Reads the settings.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(source: &impl Source) -> Result<Self, ConfigError> {
        let service = ServiceConfig::read(source)?;
        let limits = Limits {
            devices: count(source, DEVICES_PER_USER, 1..=50, 10, "a whole number from 1 to 50")?,
            unfinished: count(source, UNFINISHED_PER_USER, 1..=50, 5, "a whole number from 1 to 50")?,
        };
        // Whoever guesses may choose among the devices of a user.
        let devices = u32::try_from(limits.devices).unwrap_or(u32::MAX);
        let odds = service.policy.odds_of_a_year() * f64::from(devices);
        if odds > Policy::MOST_A_YEAR {
            return Err(ConfigError::TooManyDevices(odds));
        }
        Ok(Self {
            service,
            seed_prefix: required(source, SEED_PREFIX)?,
            seed_key: optional(source, SEED_KEY),
            seed_storage: seed_storage(source)?,
            key_ring: required(source, KEY_RING)?,
            seed_cache: seed_cache(source)?,
            seed_tags: seed_tags(source)?,
            issuer: Issuer::parse(&required(source, ISSUER)?).map_err(|_| ConfigError::Invalid {
                name: ISSUER,
                expected: "1 to 64 characters without a colon, control characters or outer white space",
            })?,
            limits,
            registration_life: seconds(
                source,
                REGISTRATION_LIFE_SECONDS,
                300..=3_600,
                600,
                "a whole number of seconds from 300 to 3600",
            )?,
        })
    }
}

#[cfg(feature = "registry")]
fn count(
    source: &impl Source,
    name: &'static str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    expected: &'static str,
) -> Result<usize, ConfigError> {
    let value = whole(source, name, expected)?.unwrap_or(default);
    let in_range = range.contains(&value).then(|| usize::try_from(value).ok()).flatten();
    in_range.ok_or(ConfigError::Invalid { name, expected })
}

/// Which owner each client acts for; also read by the operator's tool.
///
/// # Errors
/// [`ConfigError`].
pub fn client_owners(source: &impl Source) -> Result<ClientOwners, ConfigError> {
    let pairs = optional(source, CLIENT_OWNERS).unwrap_or_default();
    ClientOwners::parse(&pairs).map_err(|_| ConfigError::Invalid {
        name: CLIENT_OWNERS,
        expected: "clientId=owner pairs between commas, each client once",
    })
}

/// Where new seeds are kept; also read by the operator's tool.
///
/// # Errors
/// [`ConfigError`].
#[cfg(feature = "registry")]
pub fn seed_storage(source: &impl Source) -> Result<SeedStorage, ConfigError> {
    let Some(raw) = optional(source, SEED_STORAGE) else {
        return Ok(SeedStorage::default());
    };
    SeedStorage::parse(&raw).ok_or(ConfigError::Invalid {
        name: SEED_STORAGE,
        expected: "secrets or sealed",
    })
}

/// Tags of new seeds; also read by the operator's tool.
///
/// # Errors
/// [`ConfigError`].
#[cfg(feature = "registry")]
pub fn seed_tags(source: &impl Source) -> Result<BTreeMap<String, String>, ConfigError> {
    let pairs = optional(source, SEED_TAGS).unwrap_or_default();
    read_tags(&pairs).ok_or(ConfigError::Invalid {
        name: SEED_TAGS,
        expected: "at most 50 key=value pairs between commas, each key once and without aws: before it; keys of at most 128 \
                   characters, values of 256: letters, digits, inner spaces and _.:/+-@, in values = too",
    })
}

/// What every service of AWS takes as tags, in ASCII.
#[cfg(feature = "registry")]
fn read_tags(raw: &str) -> Option<BTreeMap<String, String>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " _.:/+-@".contains(c);
    let mut tags = BTreeMap::new();
    for pair in raw.split(',').filter(|_| !raw.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let reserved = key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"));
        let valid = (1..=128).contains(&key.len())
            && value.len() <= 256
            && [key, value].iter().all(|text| text.trim() == *text);
        let valid = valid && key.chars().all(allowed) && value.chars().all(|c| c == '=' || allowed(c));
        if reserved || !valid || tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    (tags.len() <= 50).then_some(tags)
}

fn optional(source: &impl Source, name: &str) -> Option<String> {
    source.get(name).filter(|value| !value.is_empty())
}

fn required(source: &impl Source, name: &'static str) -> Result<String, ConfigError> {
    optional(source, name).ok_or(ConfigError::Missing(name))
}

fn whole(source: &impl Source, name: &'static str, expected: &'static str) -> Result<Option<u32>, ConfigError> {
    optional(source, name)
        .map(|value| value.parse().map_err(|_| ConfigError::Invalid { name, expected }))
        .transpose()
}

fn seconds(
    source: &impl Source,
    name: &'static str,
    range: std::ops::RangeInclusive<u32>,
    default: u32,
    expected: &'static str,
) -> Result<Duration, ConfigError> {
    let value = whole(source, name, expected)?.unwrap_or(default);
    if range.contains(&value) {
        Ok(Duration::from_secs(u64::from(value)))
    } else {
        Err(ConfigError::Invalid { name, expected })
    }
}

fn auth_life(source: &impl Source) -> Result<Duration, ConfigError> {
    seconds(
        source,
        AUTH_LIFE_SECONDS,
        180..=600,
        300,
        "a whole number of seconds from 180 to 600",
    )
}

/// How long a seed may stay in memory; also read by the operator's tool.
///
/// # Errors
/// [`ConfigError`].
pub fn seed_cache(source: &impl Source) -> Result<Duration, ConfigError> {
    seconds(
        source,
        SEED_CACHE_SECONDS,
        0..=3_600,
        300,
        "a whole number of seconds from 0 to 3600",
    )
}

fn device_hash_key(source: &impl Source) -> Result<HashKey, ConfigError> {
    let key = HashKey(required(source, DEVICE_HASH_KEY)?);
    if key.as_bytes().len() < 16 {
        return Err(ConfigError::Invalid {
            name: DEVICE_HASH_KEY,
            expected: "at least 16 characters long",
        });
    }
    Ok(key)
}

/// The limits on guessing: [`GUESS_POLICY`] and, with `custom`, its three numbers.
///
/// # Errors
/// [`ConfigError`], which names the first variable that is missing or out of range.
pub fn policy(source: &impl Source) -> Result<Policy, ConfigError> {
    let number = |name, expected| whole(source, name, expected)?.ok_or(ConfigError::Missing(name));
    match optional(source, GUESS_POLICY).as_deref() {
        None | Some("standard") => Ok(Policy::standard()),
        Some("strict") => Ok(Policy::strict()),
        Some("custom") => Policy::custom(
            number(GUESS_BURST, "a whole number from 6 to 50")?,
            number(GUESS_REFILL_HOURS, "a whole number of hours from 1 to 1440")?,
            number(GUESS_PAIR_GAP_SECONDS, "a whole number of seconds from 1 to 60")?,
        )
        .map_err(ConfigError::Policy),
        Some(_) => Err(ConfigError::Invalid {
            name: GUESS_POLICY,
            expected: "standard, strict or custom",
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn settings(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let base = [
            (AUTHS_TABLE, "auths"),
            (DEVICES_TABLE, "devices"),
            (SEED_PREFIX, "mfa"),
            (KEY_RING, "ring"),
            (DEVICE_HASH_KEY, "0123456789abcdef"),
        ];
        base.iter()
            .chain(changes)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn aws_is_where_its_sdks_variables_say() -> Result<(), ConfigError> {
        let read = |settings: &[(&str, &str)]| {
            let settings = settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            AwsConfig::read(&settings.collect::<BTreeMap<_, _>>())
        };
        let region = ("AWS_REGION", "eu-central-1");
        let expected = AwsConfig {
            region: region.1.to_owned(),
            dynamodb_url: None,
            secrets_manager_url: None,
            fips: false,
            dual_stack: false,
            certificates: None,
        };
        assert_eq!(read(&[region])?, expected);

        let everywhere = ("AWS_ENDPOINT_URL", "http://everywhere");
        let urls = |config: AwsConfig| [config.dynamodb_url, config.secrets_manager_url].map(Option::unwrap_or_default);
        assert_eq!(urls(read(&[region, everywhere])?), ["http://everywhere"; 2]);
        let one = ("AWS_ENDPOINT_URL_DYNAMODB", "http://one");
        assert_eq!(
            urls(read(&[region, everywhere, one])?),
            ["http://one", "http://everywhere"]
        );
        let other = ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://other");
        assert_eq!(urls(read(&[region, one, other])?), ["http://one", "http://other"]);

        let found = read(&[
            region,
            ("AWS_USE_FIPS_ENDPOINT", "True"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "false"),
        ])?;
        assert_eq!((found.fips, found.dual_stack), (true, false));

        let error = |settings: &[(&str, &str)]| read(settings).map_err(|error| error.to_string()).err();
        assert_eq!(error(&[("AWS_REGION", "")]).as_deref(), Some("AWS_REGION is not set"));
        for name in ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"] {
            assert_eq!(
                error(&[region, (name, "yes")]),
                Some(format!("{name} must be true or false"))
            );
        }
        Ok(())
    }

    fn refused(changes: &[(&str, &str)]) -> String {
        let source = settings(changes);
        let errors = [
            InitAuthConfig::read(&source).err(),
            ValidateOtpConfig::read(&source).err(),
        ];
        errors
            .into_iter()
            .flatten()
            .map(|error| crate::error::chain(&error))
            .next()
            .unwrap_or_default()
    }

    #[test]
    fn the_defaults_are_the_documented_ones() -> Result<(), ConfigError> {
        let config = InitAuthConfig::read(&settings(&[]))?;
        assert_eq!(
            (config.auth_life.as_secs(), config.service.policy),
            (300, Policy::standard())
        );
        assert_eq!(ValidateOtpConfig::read(&settings(&[]))?.seed_cache.as_secs(), 300);
        Ok(())
    }

    #[test]
    fn an_error_names_the_variable_and_does_not_show_its_value() {
        for (name, value) in [
            (AUTHS_TABLE, ""),
            (KEY_RING, ""),
            (AUTH_LIFE_SECONDS, "179"),
            (AUTH_LIFE_SECONDS, "601"),
            (AUTH_LIFE_SECONDS, "5m-oops"),
            (SEED_CACHE_SECONDS, "3601"),
            (DEVICE_HASH_KEY, "15-bytes-a-oops"),
            (GUESS_POLICY, "oops"),
        ] {
            let error = refused(&[(name, value)]);
            assert!(error.contains(name), "{name}={value}: {error:?}");
            assert!(
                value.is_empty() || !error.contains(value) || value.parse::<u32>().is_ok(),
                "{error:?}"
            );
        }
    }

    #[test]
    fn a_custom_policy_needs_all_its_numbers_in_range() {
        let custom = |burst, refill, gap| {
            refused(&[
                (GUESS_POLICY, "custom"),
                (GUESS_BURST, burst),
                (GUESS_REFILL_HOURS, refill),
                (GUESS_PAIR_GAP_SECONDS, gap),
            ])
        };
        assert_eq!(custom("20", "36", "1"), "");
        assert!(custom("", "36", "1").contains(GUESS_BURST));
        assert!(custom("20", "", "1").contains(GUESS_REFILL_HOURS));
        assert!(custom("20", "36", "").contains(GUESS_PAIR_GAP_SECONDS));
        assert!(custom("51", "36", "1").contains("6 to 50"));
        assert!(custom("50", "1", "1").contains("1e-2"));
    }

    #[test]
    fn the_hash_key_is_not_in_debug_output() {
        let shown = format!("{:?}", InitAuthConfig::read(&settings(&[])));
        assert!(!shown.contains("0123456789abcdef"), "{shown}");
    }
}
