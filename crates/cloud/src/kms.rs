//! Client of AWS KMS: decrypts the data key of an encrypted session and describes keys.

use super::{Amazon, CallError, KMS};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// A data key that only KMS can decrypt.
#[derive(Clone, Debug)]
pub struct Sealed<'a> {
    pub key_id: &'a str,
    pub bytes: &'a [u8],
    /// The encryption context it is bound to.
    pub context: Value,
}

/// Decrypts a data key with KMS.
pub async fn decrypt(
    amazon: &Amazon,
    sealed: &Sealed<'_>,
) -> Result<Zeroizing<Vec<u8>>, CallError> {
    let body = json!({
        "CiphertextBlob": BASE64.encode(sealed.bytes),
        "EncryptionContext": sealed.context,
        "KeyId": sealed.key_id,
    });
    let mut answer = amazon.call(KMS, "Decrypt", &body).await?;
    let text = match answer.get_mut("Plaintext").map(Value::take) {
        Some(Value::String(text)) => Zeroizing::new(text),
        _ => return Err(odd("the answer has no Plaintext")),
    };
    BASE64
        .decode(text.as_bytes())
        .map(Zeroizing::new)
        .map_err(|_| odd("the Plaintext is not base64"))
}

/// The response of `DescribeKey` for a key.
pub async fn describe(amazon: &Amazon, key_id: &str) -> Result<Value, CallError> {
    amazon.call(KMS, "DescribeKey", &json!({"KeyId": key_id})).await
}

fn odd(message: &str) -> CallError {
    CallError::Service { code: "InvalidAnswer".to_owned(), message: message.to_owned() }
}
