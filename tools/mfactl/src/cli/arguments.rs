//! What can be typed. Doc comments are the help of the program.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use shared::names::{ClientId, DeviceName, Owner, UserName};
use shared::otp::{Digits, Period};
use shared::otpauth::Issuer;

use crate::formats::parameters;
use crate::ports::clients::{ClientName, Scope};
use crate::target::{Setting, Settings};

const LOCAL_FILE: &str = ".local/stack.json";
const DEPLOYMENT: &str = "Deployment";

/// Register, import and manage the devices of an MFA service, and the clients that they belong to.
///
/// Exits with 0 if everything was done, with 1 if something failed, with 2 if the command line, region or credentials are
/// wrong. Every command can be repeated: it finishes what an interrupted one began. Region and credentials come from the
/// environment, as for every AWS tool.
#[derive(Debug, Parser)]
#[command(name = "mfactl", version, arg_required_else_help = true)]
pub struct Arguments {
    /// Use the local stack, which `cargo run -p local` starts and describes in FILE
    #[arg(long, global = true, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = LOCAL_FILE, help_heading = DEPLOYMENT)]
    pub(super) local: Option<PathBuf>,
    #[arg(help = "CloudFormation stack to read the settings of the deployment from", long, global = true, value_name = "NAME", help_heading = DEPLOYMENT)]
    pub(super) stack: Option<String>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Manage devices: what users authenticate with
    #[command(subcommand)]
    Device(Box<DeviceCommand>),
    /// Manage clients: applications with credentials
    #[command(subcommand)]
    Client(ClientCommand),
    /// Manage the key ring, under whose keys sealed seeds are
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Manage where the seeds of all devices are
    #[command(subcommand)]
    Seeds(SeedsCommand),
    /// Check a deployed stack: say what is wrong and how to fix it
    ///
    /// Checks the tables, who may call the API, clients, alarms, this machine's clock, and whether every device has its secret
    /// and every secret its device. Exits with 1 if there is a problem. Changes nothing without --fix. On the local stack, checks
    /// tables, clients, clock, devices and secrets.
    Doctor(DoctorArguments),
    /// Print a completion script for a shell
    Completions {
        /// Shell that completes
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write the pages of all commands into a directory
    Man {
        /// Directory for the pages
        directory: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List the keys by their ids: never a key
    List {
        /// Count the devices of each key, and of keys that the ring lacks; reads the whole table
        #[arg(long)]
        count: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        ring: RingOption,
    },
    /// Add a new key, under which seeds are sealed from now on; the others stay in the ring
    Rotate {
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        ring: RingOption,
        #[command(flatten)]
        cache: CacheOption,
    },
    /// Seal all seeds again that are under an older key
    ///
    /// Refused until every function has the key ring: a minute and the stack's `SeedCacheSeconds` (5 minutes if that is 0) after
    /// the rotation.
    /// Sign-ins are not disturbed. Run it again if it was interrupted.
    Reseal {
        /// Wait until every function has the key ring
        #[arg(long)]
        wait: bool,
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        ring: RingOption,
        #[command(flatten)]
        cache: CacheOption,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StorageName {
    /// Sealed beside the device, under a key of the key ring
    Sealed,
    /// In a secret for each device
    Secrets,
}

#[derive(Debug, Subcommand)]
pub(super) enum SeedsCommand {
    /// Move the seeds of all devices: users keep their entries in the app
    ///
    /// An authentication that is under way with a device that is moved has to be started again. Secrets that are no longer needed
    /// can be restored for 30 days. Run it again if it was interrupted, or if devices were skipped because a new seed waits for
    /// its first code.
    Move {
        /// Where the seeds are to be
        #[arg(long, value_name = "PLACE")]
        to: StorageName,
        /// Say what would be done, and write nothing
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        seeds: SeedOptions,
        #[command(flatten)]
        ring: RingOption,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Register a device: show its seed as QR code and URI, and ask for the first code
    Register(RegisterArguments),
    /// Ask for the first code of a device that waits for it
    Activate {
        #[command(flatten)]
        device: DeviceArguments,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        ring: RingOption,
        #[command(flatten)]
        policy: PolicyOptions,
    },
    /// List devices
    List {
        #[command(flatten)]
        filter: FilterArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        table: TableOption,
    },
    /// Show a device
    Show {
        #[command(flatten)]
        device: DeviceArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        policy: PolicyOptions,
    },
    /// Disable a device
    Disable {
        #[command(flatten)]
        device: DeviceArguments,
        #[command(flatten)]
        table: TableOption,
    },
    /// Enable a disabled device
    Enable {
        #[command(flatten)]
        device: DeviceArguments,
        #[command(flatten)]
        table: TableOption,
    },
    /// Accept single codes again after too many wrong ones; two codes in a row work without it
    Unlock {
        #[command(flatten)]
        device: DeviceArguments,
        /// Forget all wrong codes, not only as many as the user needs now
        #[arg(long)]
        reset_budget: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        policy: PolicyOptions,
    },
    /// Remove a device, then its secret
    Remove {
        #[command(flatten)]
        device: DeviceArguments,
        /// Remove the secret for good; without this it can be restored for 30 days
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
    },
    /// Import devices: otpauth:// URIs, an authenticator's export, CSV (user,device,seed) or PSKC
    Import(ImportArguments),
    /// Print devices as JSON, one per line, without seeds
    Export {
        #[command(flatten)]
        filter: FilterArguments,
        #[command(flatten)]
        table: TableOption,
    },
    /// Make a table that was restored from a backup safe to use: what was issued before the restore no longer fits its devices
    ///
    /// Moves the version of every device forward, since a version must never repeat. Run it after the restore, before traffic
    /// returns, and again if it was interrupted.
    Restored {
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        table: TableOption,
    },
    /// Check whether a device can work: its item, its secret, and what an authentication would need now
    Check {
        #[command(flatten)]
        device: DeviceArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Compare the seed with the one in FILE, in base32; - is standard input
        #[arg(long, value_name = "FILE")]
        seed_file: Option<PathBuf>,
        /// Ask for two consecutive codes, and tell how far the clock of the token is off
        ///
        /// The codes are read from the terminal or standard input. They count as a pair of an authentication: a right pair is
        /// used up, a wrong one is rate-limited.
        #[arg(long)]
        codes: bool,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        ring: RingOption,
        #[command(flatten)]
        policy: PolicyOptions,
    },
}

/// Names an owner of devices.
#[derive(Debug, Clone, Args)]
pub(super) struct OwnerArguments {
    /// Client whose devices are meant, by its id; with --local, the first one by default
    #[arg(long, value_name = "ID", value_parser = ClientId::parse)]
    pub(super) client: Option<ClientId>,
    /// Owner whose devices are meant; without this, the one that the client acts for
    #[arg(long, value_name = "NAME", value_parser = Owner::parse, conflicts_with = "client")]
    pub(super) owner: Option<Owner>,
    #[command(flatten)]
    owners: OwnersOption,
}

/// Names a device.
#[derive(Debug, Clone, Args)]
pub(super) struct DeviceArguments {
    #[command(flatten)]
    pub(super) owner: OwnerArguments,
    /// User who has the device
    #[arg(long, value_parser = UserName::parse)]
    pub(super) user: UserName,
    /// Name of the device
    #[arg(long, value_parser = DeviceName::parse)]
    pub(super) device: DeviceName,
}

#[derive(Debug, Args)]
pub(super) struct FilterArguments {
    #[command(flatten)]
    pub(super) owner: OwnerArguments,
    /// Only devices of this user; requires --client, --owner or --local
    #[arg(long, value_parser = UserName::parse)]
    pub(super) user: Option<UserName>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum AlgorithmName {
    /// Supported by every app
    Sha1,
    /// Not supported by every app
    Sha256,
    /// Not supported by every app
    Sha512,
}

#[derive(Debug, Args)]
pub(super) struct RegisterArguments {
    #[command(flatten)]
    pub(super) device: DeviceArguments,
    /// Name that the app shows above the code
    #[arg(long, default_value = "MFA", value_parser = Issuer::parse)]
    pub(super) issuer: Issuer,
    /// Hash algorithm of the codes
    #[arg(long, default_value = "sha1", ignore_case = true)]
    pub(super) algorithm: AlgorithmName,
    /// Digits of a code: 6 or 8
    #[arg(long, default_value = "6", value_parser = |raw: &str| parameters::digits(raw).ok_or("6 or 8"))]
    pub(super) digits: Digits,
    /// Seconds until the code changes: 30 or 60
    #[arg(long, default_value = "30", value_parser = |raw: &str| parameters::period(raw).ok_or("30 or 60"))]
    pub(super) period: Period,
    /// Give an active device a new seed; the old one works until the first correct code of the new one
    #[arg(long)]
    pub(super) replace: bool,
    /// With --replace, how long the new seed waits for its first code
    #[arg(long, default_value = "60", value_name = "MINUTES", value_parser = clap::value_parser!(u16).range(1..=10_080))]
    pub(super) pending_minutes: u16,
    /// How long a device that gets no first code is kept, in hours or days; then `doctor --fix` removes it
    #[arg(long, default_value = "7d", value_name = "TIME", value_parser = hours_or_days)]
    pub(super) activate_within: Duration,
    /// Do not ask for the first code; `device activate` does
    #[arg(long)]
    pub(super) no_activate: bool,
    /// Write the QR code as PNG, readable only by you
    #[arg(long, value_name = "FILE")]
    pub(super) png: Option<PathBuf>,
    /// Write the QR code as SVG, readable only by you
    #[arg(long, value_name = "FILE")]
    pub(super) svg: Option<PathBuf>,
    /// Overwrite existing files
    #[arg(long, short)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) table: TableOption,
    #[command(flatten)]
    pub(super) seeds: SeedOptions,
    #[command(flatten)]
    pub(super) storage: StorageOption,
    #[command(flatten)]
    pub(super) ring: RingOption,
    #[command(flatten)]
    pub(super) policy: PolicyOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum DeviceSource {
    /// The issuer of the account, followed by the account's own device if it names one
    Issuer,
}

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// File to import; - is standard input
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) owner: OwnerArguments,
    /// Device name for rows that have none
    #[arg(long, value_parser = DeviceName::parse)]
    pub(super) device: Option<DeviceName>,
    /// Name the devices of URIs and authenticator exports after something that tells apart accounts with the same name
    #[arg(long, value_name = "WHAT")]
    pub(super) device_from: Option<DeviceSource>,
    /// Read the users of PSKC keys from FILE, a CSV file with the columns serial and user; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) users: Option<PathBuf>,
    /// Say what would be done with each row, and write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Import so many rows at a time, 1 to 32; the secrets that all of them create are limited to 40 a second
    #[arg(long, default_value = "8", value_name = "ROWS", value_parser = clap::value_parser!(u8).range(1..=32))]
    pub(super) parallel: u8,
    /// Accept seeds of 80 to 127 bits
    #[arg(long)]
    pub(super) allow_weak_seeds: bool,
    /// Read the pre-shared key of a PSKC file from FILE, in hexadecimal digits; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) pre_shared_key_file: Option<PathBuf>,
    /// Accept PSKC keys with a start or end date, which the service does not enforce
    #[arg(long)]
    pub(super) allow_dated_keys: bool,
    #[command(flatten)]
    pub(super) table: TableOption,
    #[command(flatten)]
    pub(super) seeds: SeedOptions,
    #[command(flatten)]
    pub(super) storage: StorageOption,
    #[command(flatten)]
    pub(super) ring: RingOption,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// Create a client, and show how it gets tokens
    Add {
        /// Name of the client
        #[arg(value_parser = ClientName::parse)]
        name: ClientName,
        /// Scopes that it may request
        #[arg(long, value_name = "SCOPE", value_delimiter = ',', default_value = "mfa/authenticate", value_parser = Scope::parse)]
        scopes: Vec<Scope>,
        #[command(flatten)]
        secret: SecretArguments,
        #[command(flatten)]
        overwrite: Overwrite,
        #[command(flatten)]
        pool: PoolOption,
        #[command(flatten)]
        token: TokenOption,
    },
    /// List the clients of the user pool, without secrets
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        pool: PoolOption,
    },
    /// Add a second secret to a client; with --finish, once the application uses it, delete the first
    Rotate {
        /// Name or id of the client
        #[arg(value_name = "NAME|ID")]
        client: String,
        #[command(flatten)]
        rotation: RotateArguments,
        /// Answer every question with yes, and overwrite existing files
        #[arg(long, short)]
        yes: bool,
        #[command(flatten)]
        pool: PoolOption,
        #[command(flatten)]
        token: TokenOption,
    },
    /// Remove a client
    Remove {
        /// Name or id of the client
        #[arg(value_name = "NAME|ID")]
        client: String,
        /// Remove it even if it has devices that no other client acts for
        #[arg(long)]
        with_devices_left: bool,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        pool: PoolOption,
        #[command(flatten)]
        table: TableOption,
        #[command(flatten)]
        owners: OwnersOption,
    },
}

/// Where a secret goes: never into the list of processes, a log or another file.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct SecretArguments {
    /// Write the secret, and nothing else, into a file that only you can read
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
    /// Show the secret on the terminal, once
    #[arg(long)]
    pub(super) show_secret: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct RotateArguments {
    /// Write the new secret, and nothing else, into a file that only you can read
    #[arg(long, value_name = "FILE")]
    pub(super) secret_file: Option<PathBuf>,
    /// Show the new secret on the terminal, once
    #[arg(long)]
    pub(super) show_secret: bool,
    /// Delete the older of two secrets
    #[arg(long)]
    pub(super) finish: bool,
    /// Delete the newer of two secrets
    #[arg(long)]
    pub(super) undo: bool,
}

#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Fix orphans and remove abandoned registrations, after a question
    ///
    /// Removes secrets that no device names (each can be restored for 30 days), restores secrets that devices name, and removes
    /// devices whose secret is gone for good, or that were not activated in time.
    #[arg(long)]
    pub(super) fix: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[arg(
        help = "URL of the API, if it has a custom domain; the stack's output ApiUrl by default",
        long,
        value_name = "URL"
    )]
    pub(super) api_url: Option<String>,
    #[command(flatten)]
    pub(super) confirmation: Confirmation,
    #[command(flatten)]
    pub(super) token: TokenOption,
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Confirmation {
    /// Answer every question with yes
    #[arg(long, short)]
    pub(super) yes: bool,
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Overwrite {
    /// Overwrite existing files
    #[arg(long, short)]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct TokenOption {
    /// Token endpoint; that of the user pool's domain by default
    #[arg(long, value_name = "URL")]
    pub(super) token_url: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PoolOption {
    #[arg(help = "Id of the user pool [env: USER_POOL_ID]", long, value_name = "ID", help_heading = DEPLOYMENT)]
    user_pool: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct TableOption {
    #[arg(help = "Table of devices [env: DEVICES_TABLE]", long, value_name = "NAME", help_heading = DEPLOYMENT)]
    devices_table: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct OwnersOption {
    #[arg(help = "Owners that clients act for, if the stack has them (ClientOwners) [env: CLIENT_OWNERS]", long, value_name = "CLIENT=OWNER,…", help_heading = DEPLOYMENT)]
    client_owners: Option<String>,
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "they are the names of the options")]
pub(super) struct SeedOptions {
    #[arg(help = "Prefix of the names of secrets [env: SEED_PREFIX]", long, value_name = "PREFIX", help_heading = DEPLOYMENT)]
    seed_prefix: Option<String>,
    #[arg(help = "KMS key to encrypt new secrets with, if the stack has one (SeedKey) [env: SEED_KEY]", long, value_name = "ARN", help_heading = DEPLOYMENT)]
    seed_key: Option<String>,
    #[arg(help = "Tags of new secrets, if the stack has them (SeedTags) [env: SEED_TAGS]", long, value_name = "KEY=VALUE,…", help_heading = DEPLOYMENT)]
    seed_tags: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct StorageOption {
    #[arg(help = "Where new seeds are kept: secrets or sealed [env: SEED_STORAGE]", long, value_name = "PLACE", help_heading = DEPLOYMENT)]
    seed_storage: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RingOption {
    #[arg(help = "Secret that is the key ring, for sealed seeds [env: KEY_RING]", long, value_name = "ARN", help_heading = DEPLOYMENT)]
    key_ring: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct CacheOption {
    #[arg(help = "How long functions keep a seed in memory (SeedCacheSeconds) [env: SEED_CACHE_SECONDS]", long, value_name = "SECONDS", help_heading = DEPLOYMENT)]
    seed_cache_seconds: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PolicyOptions {
    #[arg(help = "Rate limit: standard, strict or custom [env: GUESS_POLICY]", long, value_name = "POLICY", help_heading = DEPLOYMENT)]
    policy: Option<String>,
    #[arg(help = "With custom, wrong single codes that are allowed at once [env: GUESS_BURST]", long, value_name = "CODES", help_heading = DEPLOYMENT)]
    policy_burst: Option<String>,
    #[arg(help = "With custom, hours until one more is allowed [env: GUESS_REFILL_HOURS]", long, value_name = "HOURS", help_heading = DEPLOYMENT)]
    policy_refill_hours: Option<String>,
    #[arg(help = "With custom, seconds between wrong pairs of codes [env: GUESS_PAIR_GAP_SECONDS]", long, value_name = "SECONDS", help_heading = DEPLOYMENT)]
    policy_pair_gap_seconds: Option<String>,
}

type Given<'a> = (Setting, &'a Option<String>);

impl TableOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::DEVICES_TABLE, &self.devices_table)]
    }
}

impl OwnersOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::CLIENT_OWNERS, &self.client_owners)]
    }
}

impl PoolOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::USER_POOL_ID, &self.user_pool)]
    }
}

impl SeedOptions {
    fn given(&self) -> [Given<'_>; 3] {
        [
            (Setting::SEED_PREFIX, &self.seed_prefix),
            (Setting::SEED_KEY, &self.seed_key),
            (Setting::SEED_TAGS, &self.seed_tags),
        ]
    }
}

impl StorageOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::SEED_STORAGE, &self.seed_storage)]
    }
}

impl RingOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::KEY_RING, &self.key_ring)]
    }
}

impl CacheOption {
    fn given(&self) -> [Given<'_>; 1] {
        [(Setting::SEED_CACHE_SECONDS, &self.seed_cache_seconds)]
    }
}

impl PolicyOptions {
    fn given(&self) -> [Given<'_>; 4] {
        [
            (Setting::GUESS_POLICY, &self.policy),
            (Setting::GUESS_BURST, &self.policy_burst),
            (Setting::GUESS_REFILL_HOURS, &self.policy_refill_hours),
            (Setting::GUESS_PAIR_GAP_SECONDS, &self.policy_pair_gap_seconds),
        ]
    }
}

/// `36h` or `7d`, up to a year.
fn hours_or_days(raw: &str) -> Result<Duration, &'static str> {
    let (number, unit) = match (raw.strip_suffix('h'), raw.strip_suffix('d')) {
        (Some(hours), _) => (hours, 1),
        (_, Some(days)) => (days, 24),
        (None, None) => ("", 0),
    };
    let hours = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let hours = hours.filter(|hours| (1..=365 * 24).contains(hours));
    let expected = "hours or days, such as 36h or 7d, up to 365d";
    hours.map(Duration::from_hours).ok_or(expected)
}

impl DeviceCommand {
    /// Whose devices are meant.
    pub(super) const fn owner(&self) -> Option<&OwnerArguments> {
        match self {
            Self::Register(given) => Some(&given.device.owner),
            Self::Import(given) => Some(&given.owner),
            Self::Activate { device, .. }
            | Self::Show { device, .. }
            | Self::Disable { device, .. }
            | Self::Enable { device, .. }
            | Self::Unlock { device, .. }
            | Self::Remove { device, .. }
            | Self::Check { device, .. } => Some(&device.owner),
            Self::List { filter, .. } | Self::Export { filter, .. } => Some(&filter.owner),
            Self::Restored { .. } => None,
        }
    }

    /// The settings that were given.
    pub(super) fn settings(&self) -> Settings {
        let (table, seeds, policy) = match self {
            Self::Register(given) => (&given.table, Some(&given.seeds), Some(&given.policy)),
            Self::Import(given) => (&given.table, Some(&given.seeds), None),
            Self::Activate { table, policy, .. }
            | Self::Show { table, policy, .. }
            | Self::Unlock { table, policy, .. }
            | Self::Check { table, policy, .. } => (table, None, Some(policy)),
            Self::List { table, .. }
            | Self::Disable { table, .. }
            | Self::Enable { table, .. }
            | Self::Remove { table, .. }
            | Self::Export { table, .. }
            | Self::Restored { table, .. } => (table, None, None),
        };
        let given = table.given().into_iter();
        let given = given.chain(self.owner().into_iter().flat_map(|owner| owner.owners.given()));
        let given = given.chain(seeds.into_iter().flat_map(SeedOptions::given));
        let (storage, ring) = match self {
            Self::Register(given) => (Some(&given.storage), Some(&given.ring)),
            Self::Import(given) => (Some(&given.storage), Some(&given.ring)),
            Self::Activate { ring, .. } | Self::Check { ring, .. } => (None, Some(ring)),
            _ => (None, None),
        };
        let given = given.chain(storage.into_iter().flat_map(StorageOption::given));
        let given = given.chain(ring.into_iter().flat_map(RingOption::given));
        Settings::from_options(given.chain(policy.into_iter().flat_map(PolicyOptions::given)))
    }

    /// The settings that must have a value.
    pub(super) const fn required_settings(&self) -> &'static [Setting] {
        match self {
            Self::Register(_) => &[Setting::DEVICES_TABLE, Setting::SEED_PREFIX, Setting::GUESS_POLICY],
            Self::Import(_) => &[Setting::DEVICES_TABLE, Setting::SEED_PREFIX],
            // What they decide, or say that the functions would decide, depends on the policy of the deployment.
            Self::Activate { .. } | Self::Show { .. } | Self::Unlock { .. } | Self::Check { .. } => {
                &[Setting::DEVICES_TABLE, Setting::GUESS_POLICY]
            }
            _ => &[Setting::DEVICES_TABLE],
        }
    }

    /// Whether every question is answered with yes.
    pub(super) const fn yes(&self) -> bool {
        match self {
            Self::Register(given) => given.yes,
            Self::Unlock { confirmation, .. }
            | Self::Remove { confirmation, .. }
            | Self::Restored { confirmation, .. } => confirmation.yes,
            _ => false,
        }
    }
}

impl KeysCommand {
    /// The settings that were given.
    pub(super) fn settings(&self) -> Settings {
        let (table, ring, cache) = match self {
            Self::List { table, ring, .. } => (table, ring, None),
            Self::Rotate { table, ring, cache, .. } | Self::Reseal { table, ring, cache, .. } => {
                (table, ring, Some(cache))
            }
        };
        let given = table.given().into_iter().chain(ring.given());
        Settings::from_options(given.chain(cache.into_iter().flat_map(CacheOption::given)))
    }

    /// The settings that must have a value.
    pub(super) const fn required_settings(&self) -> &'static [Setting] {
        match self {
            Self::List { .. } => &[Setting::DEVICES_TABLE, Setting::KEY_RING],
            // A value that is too short would be a reseal too early.
            Self::Rotate { .. } | Self::Reseal { .. } => {
                &[Setting::DEVICES_TABLE, Setting::KEY_RING, Setting::SEED_CACHE_SECONDS]
            }
        }
    }

    /// Whether every question is answered with yes.
    pub(super) const fn yes(&self) -> bool {
        match self {
            Self::List { .. } => false,
            Self::Rotate { confirmation, .. } | Self::Reseal { confirmation, .. } => confirmation.yes,
        }
    }
}

impl SeedsCommand {
    /// The settings that must have a value.
    pub(super) const REQUIRED_SETTINGS: &[Setting] = &[Setting::DEVICES_TABLE, Setting::SEED_PREFIX, Setting::KEY_RING];

    /// The settings that were given.
    pub(super) fn settings(&self) -> Settings {
        let Self::Move { table, seeds, ring, .. } = self;
        let given = table.given().into_iter().chain(seeds.given());
        Settings::from_options(given.chain(ring.given()))
    }
}

impl ClientCommand {
    /// The settings that were given.
    pub(super) fn settings(&self) -> Settings {
        let (pool, stores) = match self {
            Self::Add { pool, .. } | Self::List { pool, .. } | Self::Rotate { pool, .. } => (pool, None),
            Self::Remove {
                pool, table, owners, ..
            } => (pool, Some((table, owners))),
        };
        let given = pool.given().into_iter();
        Settings::from_options(
            given.chain(
                stores
                    .into_iter()
                    .flat_map(|(table, owners)| table.given().into_iter().chain(owners.given())),
            ),
        )
    }

    pub(super) fn token_url(&self) -> Option<String> {
        match self {
            Self::Add { token, .. } | Self::Rotate { token, .. } => token.token_url.clone(),
            Self::List { .. } | Self::Remove { .. } => None,
        }
    }

    /// Whether every question is answered with yes.
    pub(super) const fn yes(&self) -> bool {
        match self {
            Self::Add { overwrite, .. } => overwrite.yes,
            Self::Rotate { yes, .. } => *yes,
            Self::Remove { confirmation, .. } => confirmation.yes,
            Self::List { .. } => false,
        }
    }
}
