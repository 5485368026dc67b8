//! Errors of S3, with hints for fixing them.

use super::Object;
use super::request::S3Failure;

/// A call failed, after the retries that might have helped.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {object}: {problem}")]
pub struct S3Error {
    pub doing: &'static str,
    pub object: String,
    pub problem: String,
    /// S3's code for it; empty if there was no response.
    pub code: String,
    cause: S3ErrorCause,
}

/// The cause of an error, as far as its code tells.
#[derive(Debug)]
enum S3ErrorCause {
    /// S3 says that the bucket is in this other Region.
    Region(String),
    /// There was no response.
    Silence,
    /// The server is overloaded or faulty.
    Busy,
    Other,
}

impl S3Error {
    pub(super) fn new(doing: &'static str, object: &Object, failure: S3Failure) -> Self {
        let S3Failure { status, code, message, region, .. } = failure;
        let problem = match (status, code.as_str(), message.as_str()) {
            (Some(status), "", "") => format!("the server answers {status}"),
            (None, _, message) => message.to_owned(),
            (_, "", message) => message.to_owned(),
            (_, code, "") => code.to_owned(),
            (_, code, message) => format!("{code}: {message}"),
        };
        let cause = match (region, status) {
            (Some(region), _) => S3ErrorCause::Region(region),
            (None, None) => S3ErrorCause::Silence,
            (None, Some(500..)) => S3ErrorCause::Busy,
            (None, Some(_)) => cause_of(&code),
        };
        let code = match (code.as_str(), status) {
            // Responses to `HEAD` have no body.
            ("", Some(404)) => "NotFound".to_owned(),
            ("", Some(403)) => "AccessDenied".to_owned(),
            _ => code,
        };
        S3Error { doing, object: object.to_string(), problem, code, cause }
    }

    /// An error for one object of a batch.
    pub(super) fn of_code(
        doing: &'static str,
        object: &Object,
        code: String,
        message: &str,
    ) -> Self {
        let problem = match (code.as_str(), message) {
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        let cause = cause_of(&code);
        S3Error { doing, object: object.to_string(), problem, code, cause }
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
        Self::odd(doing, object, problem)
    }

    /// The body of an upload cannot be read.
    pub(super) fn unreadable(object: &Object, error: &std::io::Error) -> Self {
        Self::own(object, error.to_string())
    }

    /// An error on our side, not S3's.
    pub(super) fn own(object: &Object, problem: String) -> Self {
        Self::odd("put", object, problem)
    }

    /// An error for which S3 has no code.
    pub(super) fn odd(doing: &'static str, object: &Object, problem: String) -> Self {
        let (object, code) = (object.to_string(), String::new());
        S3Error { doing, object, problem, code, cause: S3ErrorCause::Other }
    }

    /// Whether a retry may succeed.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.cause, S3ErrorCause::Busy)
    }

    /// Whether the bucket exists but the object does not.
    pub fn is_missing_object(&self) -> bool {
        matches!(self.code.as_str(), "NoSuchKey" | "NotFound")
    }

    /// How to fix it.
    pub fn hint(&self) -> Option<String> {
        let bucket = self.object.split('/').nth(2).unwrap_or_default();
        if let S3ErrorCause::Region(region) = &self.cause {
            return Some(format!("the bucket is in {region}: set AWS_REGION={region}"));
        }
        let hint = match self.code.as_str() {
            "NoSuchBucket" => format!("make the bucket: aws s3 mb s3://{bucket}"),
            "AccessDenied" => {
                let action = match self.doing {
                    "fetch" | "look at" => "s3:GetObject",
                    "list" => "s3:ListBucket",
                    "look at the encryption of" => "s3:GetEncryptionConfiguration",
                    // A conditional removal also needs the right to read the object.
                    "remove" => "s3:DeleteObject and s3:GetObject",
                    "list the uploads of" => "s3:ListBucketMultipartUploads",
                    "throw away the upload of" => "s3:AbortMultipartUpload",
                    _ => "s3:PutObject and s3:AbortMultipartUpload",
                };
                format!("who calls needs {action} on it: aws sts get-caller-identity")
            }
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" => {
                "are these the right keys, and still good? aws sts get-caller-identity".to_owned()
            }
            "" if self.problem.contains("credentials") => {
                "choose credentials with --aws-profile NAME, or log in".to_owned()
            }
            "NoSuchKey" | "NotFound" if self.doing == "fetch" => {
                "a prune or a rule of the bucket has removed it; the next build that may save it \
                 creates it again"
                    .to_owned()
            }
            "PreconditionFailed" if self.doing == "fetch" => {
                "it was replaced meanwhile; the next build finds the new one".to_owned()
            }
            _ => match self.cause {
                S3ErrorCause::Silence => {
                    "is the endpoint the right one, and can it be reached from here? \
                                   AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, AWS_REGION"
                        .to_owned()
                }
                S3ErrorCause::Busy => {
                    "try again later, or more often at once: AWS_MAX_ATTEMPTS=10".to_owned()
                }
                S3ErrorCause::Region(_) | S3ErrorCause::Other => return None,
            },
        };
        Some(hint)
    }
}

/// The cause that a code stands for.
fn cause_of(code: &str) -> S3ErrorCause {
    match code {
        "InternalError" | "SlowDown" | "ServiceUnavailable" | "OperationAborted"
        | "RequestTimeout" => S3ErrorCause::Busy,
        _ => S3ErrorCause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_one_among_many_names_it_and_what_mends_it() {
        let object = Object { bucket: "b".into(), key: "a/k".into(), ..Object::default() };
        let error =
            |code: &str, message| S3Error::of_code("remove", &object, code.to_owned(), message);
        let refused = error("AccessDenied", "Access Denied");
        assert_eq!(refused.to_string(), "cannot remove s3://b/a/k: AccessDenied: Access Denied");
        assert!(refused.hint().is_some_and(|hint| hint.contains("s3:DeleteObject")));
        assert!(!refused.may_pass());
        assert_eq!(error("SlowDown", "").to_string(), "cannot remove s3://b/a/k: SlowDown");
        assert!(error("SlowDown", "").may_pass());
        assert!(error("SlowDown", "").hint().is_some_and(|hint| hint.contains("AWS_MAX_ATTEMPTS")));
    }
}
