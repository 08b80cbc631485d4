//! Finding a stack by its name.

use anyhow::{Result, bail};

use crate::ports::stack::{ClockOffset, DeployedStack, InspectError, Inspector};

/// Reads a stack, without its resources.
///
/// # Errors
/// If it does not exist or cannot be read, with what to do about it.
pub async fn stack_by_name(inspector: &impl Inspector, name: &str) -> Result<DeployedStack> {
    match inspector
        .stack(name)
        .await
        .map_err(|error| cannot_read(inspector, name, error))?
    {
        Some(stack) => Ok(stack),
        None => bail!(
            "there is no stack {name} in this account and region: aws cloudformation describe-stacks --query \
             'Stacks[].StackName' lists all"
        ),
    }
}

/// Reads a stack with its resources.
///
/// # Errors
/// As [`stack_by_name`].
pub async fn stack_with_resources(inspector: &impl Inspector, name: &str) -> Result<DeployedStack> {
    let stack = stack_by_name(inspector, name).await?;
    let resources = inspector.resources(name).await;
    Ok(DeployedStack {
        resources: resources.map_err(|error| cannot_read(inspector, name, error))?,
        ..stack
    })
}

/// AWS refuses every call if the clock is far off, so the error says that.
fn cannot_read(inspector: &impl Inspector, name: &str, error: InspectError) -> anyhow::Error {
    let offset = match inspector.clock_offset() {
        Some(ClockOffset::Behind(millis)) => format!("; this machine's clock is {} s behind", millis / 1_000),
        Some(ClockOffset::Ahead(millis)) => format!("; this machine's clock is {} s ahead", millis / 1_000),
        Some(ClockOffset::Unmeasurable) | None => String::new(),
    };
    anyhow::Error::new(error).context(format!("cannot read the stack {name}{offset}"))
}
