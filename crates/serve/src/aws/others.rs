//! Services that are not offered and speak REST: errors in a form that their clients can read.
//!
//! `aws s3 ls` comes here if AWS_ENDPOINT_URL is set for every service. The signature names the
//! service. It is not verified, since it only selects the form of the error. Used by `calls`, for
//! requests that neither `call` nor the gateway reads.

use super::operations::offered;
use crate::http::{Body, HttpResponse};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};

/// The form of a service's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A bare error.
    S3,
    /// An error inside a response.
    Xml,
    Json,
}

/// The service that a request is signed for; `None` without a signature.
pub(super) fn service(parts: &Parts) -> Option<String> {
    let signature = parts.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let scope = signature.split_once("Credential=")?.1.split([',', ' ']).next()?;
    let name = scope.split('/').nth(3)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let is_name = !name.is_empty() && name.len() <= 40 && name.chars().all(is_plain);
    is_name.then(|| name.to_owned())
}

/// Refuses a request in the service's own form.
pub(super) fn refuse(service: &str, method: &Method) -> HttpResponse {
    let shape = match service {
        "s3" | "s3express" => Shape::S3,
        "s3control" | "cloudfront" | "route53" => Shape::Xml,
        _ => Shape::Json,
    };
    let id = uuid::Uuid::new_v4().to_string();
    let message = format!("{service} is not offered by this endpoint, which has {}", offered());
    // Codes that no client retries.
    let (status, code) = match shape {
        Shape::S3 => (StatusCode::NOT_IMPLEMENTED, "NotImplemented"),
        Shape::Xml | Shape::Json => (StatusCode::BAD_REQUEST, "UnknownOperationException"),
    };
    let error = format!("<Code>{code}</Code><Message>{message}</Message>");
    let (kind, body) = match shape {
        Shape::S3 => {
            ("application/xml", format!("<Error>{error}<RequestId>{id}</RequestId></Error>"))
        }
        Shape::Xml => (
            "text/xml",
            format!(
                "<ErrorResponse><Error><Type>Sender</Type>{error}</Error><RequestId>{id}</RequestId>\
                 </ErrorResponse>"
            ),
        ),
        Shape::Json => (
            "application/json",
            serde_json::json!({"__type": code, "message": message}).to_string(),
        ),
    };
    let body = if *method == Method::HEAD { Bytes::new() } else { Bytes::from(body) };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("x-amzn-errortype", HeaderValue::from_static(code));
    // The request's body stays unread; it may be an object of any length.
    headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_of_a_signature() {
        let service = |text: &str| {
            let request = http::Request::builder().header("authorization", text);
            service(&request.body(()).expect("a request").into_parts().0)
        };
        let signed = |name: &str| {
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/{name}/aws4_request, \
                 SignedHeaders=host, Signature=0"
            )
        };
        assert_eq!(service(&signed("s3")).as_deref(), Some("s3"));
        assert_eq!(service(&signed("execute-api")).as_deref(), Some("execute-api"));
        for bad in ["", "Bearer x", "Credential=", &signed(""), &signed("<b>"), &signed("é")] {
            assert_eq!(service(bad), None, "{bad}");
        }
    }
}
