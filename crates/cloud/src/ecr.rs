//! Passwords of ECR for pulling an image.

use super::{Amazon, CloudIdentity, ECR};
use base64::Engine;
use futures_util::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;

/// Returns user and password for a registry, given its name and Region.
pub type Passwords = Arc<
    dyn Fn(String, String) -> BoxFuture<'static, Result<(String, String), String>> + Send + Sync,
>;

/// The passwords that this identity gets.
pub fn passwords(identity: CloudIdentity) -> Passwords {
    Arc::new(move |registry, region| {
        let identity = identity.clone();
        Box::pin(async move { password(&identity, &registry, &region).await })
    })
}

/// A password, valid for twelve hours.
async fn password(
    identity: &CloudIdentity,
    registry: &str,
    region: &str,
) -> Result<(String, String), String> {
    let amazon = Amazon::load(identity).await.in_region(region);
    let answer = amazon
        .call(ECR, "GetAuthorizationToken", &json!({}))
        .await
        .map_err(|error| format!("ECR gives no credentials for {registry}: {error}"))?;
    let token = answer["authorizationData"][0]["authorizationToken"].as_str();
    let decoded = token.and_then(|token| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(token).ok()?;
        String::from_utf8(bytes).ok()
    });
    match decoded.as_deref().and_then(|text| text.split_once(':')) {
        Some((user, password)) => Ok((user.to_owned(), password.to_owned())),
        None => Err(format!("ECR's answer for {registry} contains no token")),
    }
}
