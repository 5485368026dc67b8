//! What S3 refuses, said so that it can be mended.

use super::super::chain;
use super::Object;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use std::error::Error;

/// A call came to nothing, after all that may help was tried again.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {object}: {problem}")]
pub(crate) struct S3Error {
    pub(crate) doing: &'static str,
    pub(crate) object: String,
    pub(crate) problem: String,
    /// S3's code for it; empty where there was no answer.
    pub(crate) code: String,
    /// The Region the bucket is in, where S3 says that it is another one.
    region: Option<String>,
}

impl S3Error {
    pub(super) fn new<E>(
        doing: &'static str,
        object: &Object,
        error: &SdkError<E, HttpResponse>,
    ) -> Self
    where
        E: Error + ProvideErrorMetadata + 'static,
    {
        let response = error.raw_response();
        let status = response.map(|response| response.status().as_u16());
        let header = |name| response.and_then(|response| response.headers().get(name));
        let (code, message) = match error {
            SdkError::ServiceError(refusal) => {
                let refusal = refusal.err();
                let code = refusal.code().unwrap_or_default().to_owned();
                (code, refusal.message().unwrap_or_default().to_owned())
            }
            _ => (String::new(), chain(error)),
        };
        let problem = match (status, code.as_str(), message.as_str()) {
            (Some(status), "", "") => format!("the server answers {status}"),
            (None, _, message) => message.to_owned(),
            (_, "", message) => message.to_owned(),
            (_, code, "") => code.to_owned(),
            (_, code, message) => format!("{code}: {message}"),
        };
        S3Error {
            doing,
            object: object.to_string(),
            problem,
            code: match (code.as_str(), status) {
                // Questions without a body in their answer.
                ("", Some(404)) => "NotFound".to_owned(),
                ("", Some(403)) => "AccessDenied".to_owned(),
                _ => code,
            },
            region: header("x-amz-bucket-region")
                .filter(|_| matches!(status, Some(301 | 307 | 400)))
                .map(str::to_owned),
        }
    }

    /// A transfer that broke off again and again.
    pub(super) fn cut(
        doing: &'static str,
        object: &Object,
        at: u64,
        length: Option<u64>,
        problem: impl Into<String>,
    ) -> Self {
        let of = length.map_or_else(String::new, |length| format!(" of {length}"));
        let problem = format!("broke off after {at}{of} bytes: {}", problem.into());
        S3Error { doing, object: object.to_string(), problem, code: String::new(), region: None }
    }

    /// What is to be put cannot be read.
    pub(super) fn unreadable(object: &Object, error: &std::io::Error) -> Self {
        Self::own(object, error.to_string())
    }

    /// It is not S3's doing.
    pub(super) fn own(object: &Object, problem: String) -> Self {
        let object = object.to_string();
        S3Error { doing: "put", object, problem, code: String::new(), region: None }
    }

    /// There is no such object, in a bucket that is there.
    pub(crate) fn is_missing_object(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchKey" | "NotFound")
    }

    /// How to mend it.
    pub(crate) fn hint(&self) -> Option<String> {
        let bucket = self.object.split('/').nth(2).unwrap_or_default();
        if let Some(region) = &self.region {
            return Some(format!("the bucket is in {region}: set AWS_REGION={region}"));
        }
        let hint = match self.code.as_str() {
            "NoSuchBucket" => format!("make the bucket: aws s3 mb s3://{bucket}"),
            "AccessDenied" => {
                let action = match self.doing {
                    "fetch" => "s3:GetObject",
                    "list" => "s3:ListBucket",
                    "remove" => "s3:DeleteObject",
                    _ => "s3:PutObject and s3:AbortMultipartUpload",
                };
                format!("who calls needs {action} on it: aws sts get-caller-identity")
            }
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" => {
                "are these the right keys, and still good? aws sts get-caller-identity".to_owned()
            }
            "" if self.problem.contains("credentials") => {
                "name whose credentials are used: --aws-profile NAME, or log in".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }
}
