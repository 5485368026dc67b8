//! Signs requests with Signature Version 4.

use crate::digest;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use bytes::Bytes;
use std::time::SystemTime;

/// The credentials, Region and service of a signature.
#[derive(Clone, Debug)]
pub(super) struct SigningScope {
    pub(super) credentials: Credentials,
    pub(super) region: String,
    /// The service's name in signatures.
    pub(super) service: &'static str,
}

impl SigningScope {
    /// Signs a request with its body. Fails only for requests that no server could take.
    pub(super) async fn signed(
        self,
        mut request: http::Request<Bytes>,
    ) -> Result<http::Request<Bytes>, String> {
        digest::of(request.body().len(), move || self.sign(&mut request).map(|()| request)).await
    }

    fn sign(self, request: &mut http::Request<Bytes>) -> Result<(), String> {
        let identity = self.credentials.into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service)
            .time(SystemTime::now())
            .settings(settings(self.service))
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let mut headers = Vec::with_capacity(request.headers().len());
        for (name, value) in request.headers() {
            let value = value.to_str().map_err(|_| format!("the header {name} is not ASCII"))?;
            headers.push((name.as_str(), value));
        }
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers.into_iter(),
            SignableBody::Bytes(request.body()),
        );
        let signable = signable.map_err(|error| error.to_string())?;
        let (instructions, _) =
            sign(signable, &parameters).map_err(|error| error.to_string())?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}

/// S3 takes keys unchanged, while other services normalise paths, and wants the body's digest in a
/// header.
fn settings(service: &str) -> SigningSettings {
    let mut settings = SigningSettings::default();
    if service == "s3" {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    settings
}
