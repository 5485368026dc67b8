//! AWS as this endpoint calls it: once loaded, and never this endpoint itself.

use super::Deliveries;
use runner_cloud::kms::{self, Sealed};
use runner_cloud::s3::S3;
use runner_cloud::{Amazon, KMS, REGION, SIMPLE_STORAGE, Service};
use runner_folder::state::live_serve;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::PoisonError;
use zeroize::Zeroizing;

/// Clients of AWS.
pub(super) struct Cloud {
    pub(super) amazon: Amazon,
    pub(super) s3: S3,
}

/// A data key, as AWS KMS has encrypted it.
#[derive(Clone, Debug)]
pub struct SealedKey {
    pub key_id: String,
    pub bytes: Vec<u8>,
    /// What it is bound to.
    pub context: Value,
    /// The Region of its client, where it was made unless the key's ARN names another.
    pub region: String,
}

impl Deliveries {
    async fn amazon(&self) -> Amazon {
        let settings = &self.settings;
        Amazon::load(&settings.identity)
            .await
            .with_endpoint(SIMPLE_STORAGE, &settings.s3_endpoint)
            .with_endpoint(KMS, &settings.kms_endpoint)
    }

    /// AWS for calls of this service, unless it leads back to here.
    pub(super) async fn cloud(&self, service: Service) -> Result<&Cloud, String> {
        let cloud = self
            .cloud
            .get_or_init(|| async {
                let amazon = self.amazon().await;
                let s3 = S3::new(&amazon);
                Cloud { amazon, s3 }
            })
            .await;
        self.leads_elsewhere(&cloud.amazon, service).await.map(|()| cloud)
    }

    /// Where an object is, for people.
    pub fn object_url(&self, bucket: &str, key: &str) -> String {
        let amazon = self.cloud.get().map(|cloud| &cloud.amazon);
        match amazon.and_then(|amazon| amazon.given_endpoint(SIMPLE_STORAGE)) {
            Some(url) => format!("{}/{bucket}/{key}", url.trim_end_matches('/')),
            None => {
                let region = amazon.map_or(REGION, Amazon::region);
                format!("https://s3.{region}.amazonaws.com/{bucket}/{key}")
            }
        }
    }

    /// Where a log stream is, for people: AWS's console.
    pub fn stream_url(&self, group: &str, stream: &str) -> String {
        let region = self.cloud.get().map_or(REGION, |cloud| cloud.amazon.region());
        format!(
            "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}\
             #logEventViewer:group={group};stream={stream}"
        )
    }

    /// Has AWS KMS read a data key.
    pub async fn decrypt(&self, sealed: SealedKey) -> Result<Zeroizing<Vec<u8>>, String> {
        // `arn:aws:kms:REGION:...` where it is an ARN.
        let of_arn = sealed.key_id.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let region = of_arn.filter(|region| !region.is_empty()).unwrap_or(&sealed.region);
        let amazon = self.amazon().await.in_region(region);
        let failed = |error: &str| format!("Error calling KMS Decrypt API: {error}");
        self.leads_elsewhere(&amazon, KMS).await.map_err(|error| failed(&error))?;
        let sealed =
            Sealed { key_id: &sealed.key_id, bytes: &sealed.bytes, context: sealed.context };
        let key = kms::decrypt(&amazon, &sealed).await;
        key.map_err(|error| failed(&error.to_string()))
    }

    /// That an endpoint is none of runner's own: what users set for their own clients reaches this program, too.
    async fn leads_elsewhere(&self, amazon: &Amazon, service: Service) -> Result<(), String> {
        let Some(url) = amazon.given_endpoint(service) else { return Ok(()) };
        let Ok(uri) = url.parse::<http::Uri>() else { return Ok(()) };
        let Some(host) = uri.host() else { return Ok(()) };
        let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let home = self.home.clone();
        let serving = tokio::task::spawn_blocking(move || live_serve(&home)).await.ok().flatten();
        own.extend(serving.and_then(|serving| serving.address.parse::<SocketAddr>().ok()));
        own.retain(|address| address.port() == port);
        if own.is_empty() {
            return Ok(());
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // A name that leads nowhere is an error of the call.
        let Ok(found) = tokio::net::lookup_host((host, port)).await else { return Ok(()) };
        let is_here = |found: SocketAddr| own.iter().any(|own| is_same(*own, found));
        match found.into_iter().any(is_here) {
            true => Err(format!(
                "the endpoint {url} is runner's own, not AWS's: start runner without AWS_ENDPOINT_URL, or name AWS's \
                 with {}",
                service.variable()
            )),
            false => Ok(()),
        }
    }
}

/// Whether a connection to `found` arrives at `own`.
fn is_same(own: SocketAddr, found: SocketAddr) -> bool {
    let (own_ip, found_ip) = (own.ip().to_canonical(), found.ip().to_canonical());
    let is_all = own_ip.is_unspecified();
    let is_loopback = found_ip.is_loopback() && (own_ip.is_loopback() || is_all);
    own.port() == found.port() && (own_ip == found_ip || is_loopback || found_ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_the_same() {
        for (own, found, wanted) in [
            ("127.0.0.1:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "[::1]:4599", true),
            ("0.0.0.0:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "0.0.0.0:4599", true),
            ("[::ffff:127.0.0.1]:4599", "127.0.0.1:4599", true),
            ("127.0.0.1:4599", "127.0.0.1:4566", false),
            ("127.0.0.1:4599", "10.0.0.1:4599", false),
        ] {
            let address = |text: &str| text.parse().expect("an address");
            assert_eq!(is_same(address(own), address(found)), wanted, "{own} {found}");
        }
    }
}
