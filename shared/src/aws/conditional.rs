//! A conditional write in `DynamoDB`, and what its refusal means: the item that the condition failed on.

use std::error::Error;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::error::ConditionalCheckFailedException;

use super::attributes::{Item, STORE};
use super::items;
use super::sdk;
use crate::error::StoreError;
use crate::ports::Written;

/// A call of the tables that failed.
pub(super) fn unavailable<E: ProvideErrorMetadata + Error + 'static>(
    operation: &'static str,
    error: &SdkError<E>,
) -> StoreError {
    sdk::unavailable(STORE, operation, error)
}

/// The error of a write that can have a condition.
pub(super) trait ConditionalWriteError: ProvideErrorMetadata + Error + 'static {
    fn refusal(&self) -> Option<&ConditionalCheckFailedException>;
}

macro_rules! conditional_write_error {
    ($($error:ident),*) => {
        $(impl ConditionalWriteError for $error {
            fn refusal(&self) -> Option<&ConditionalCheckFailedException> {
                match self {
                    Self::ConditionalCheckFailedException(refusal) => Some(refusal),
                    _ => None,
                }
            }
        })*
    };
}

conditional_write_error!(PutItemError, UpdateItemError, DeleteItemError);

/// What became of a conditional write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It took effect.
    Done,
    /// The condition failed on this item, or there is none.
    Refused(Option<Item>),
}

impl Outcome {
    /// # Errors
    /// [`StoreError`] if the write failed for any other reason than its condition; it may have taken effect.
    pub(super) fn new<T, E: ConditionalWriteError>(
        operation: &'static str,
        result: Result<T, SdkError<E>>,
    ) -> Result<Self, StoreError> {
        let Err(error) = result else {
            return Ok(Self::Done);
        };
        match error.as_service_error().and_then(E::refusal) {
            Some(refusal) => Ok(Self::Refused(refusal.item.clone())),
            None => Err(unavailable(operation, &error)),
        }
    }

    /// As a write of a device.
    pub(super) fn written(self) -> Result<Written, StoreError> {
        Ok(match self {
            Self::Done => Written::Yes,
            Self::Refused(item) => Written::No(item.as_ref().map(items::read_device).transpose()?.map(Box::new)),
        })
    }
}
