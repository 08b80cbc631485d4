//! What AWS charges: list prices of us-east-1 in US dollars, those of docs/operations.md, without discounts for volume.

use shared::sealed::SeedStorage;

/// Million authentications: two requests to the API and to Lambda, two writes and two reads of tables.
pub(super) const PER_MILLION: [(&str, f64); 6] = [
    ("API Gateway", 2.0 * 3.50),
    (SECRETS_MANAGER, 1e6 / 10_000.0 * 0.05),
    ("logs", 2.0 * (0.45 + 0.75 + 0.40) * 0.50),
    ("DynamoDB", 2.0 * 0.625 + 2.0 * 0.125),
    ("X-Ray", 0.05 * 2.0 * 5.00),
    ("Lambda, arm64, 256 MB", 2.0 * 0.20 + 2e6 * 0.015 * 0.25 * 0.000_013_3),
];
const SECRETS_MANAGER: &str = "Secrets Manager";
const SECRET: f64 = 0.40;
/// Secrets Manager, "AWS Secrets Manager quotas": account and region. The number is not confirmed.
pub(super) const MOST_SECRETS: f64 = 500_000.0;
/// Working days of a month, with one authentication each.
pub(super) const SIGN_INS: f64 = 22.0;

/// A month of a number of devices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Month {
    /// Secrets, with the key ring.
    pub(super) secrets: f64,
    pub(super) authentications: f64,
}

/// `None` if there cannot be so many secrets.
pub(super) fn month(devices: f64, seeds: SeedStorage) -> Option<Month> {
    let secrets = match seeds {
        SeedStorage::Secrets => devices + 1.0,
        SeedStorage::Sealed => 1.0,
    };
    let charged = |name: &str| seeds == SeedStorage::Secrets || name != SECRETS_MANAGER;
    let million: f64 = PER_MILLION
        .iter()
        .filter(|(name, _)| charged(name))
        .map(|(_, price)| price)
        .sum();
    (secrets <= MOST_SECRETS).then_some(Month {
        secrets: secrets * SECRET,
        authentications: devices * SIGN_INS / 1e6 * million,
    })
}
