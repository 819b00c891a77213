//! The API of Amazon ECR, as far as it logs in, lists images, deletes tags, looks for layers and creates repositories:
//! signed requests, whose signatures are verified.

use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use axum::extract::Request;
use axum::http::Method;
use axum::http::header::{AUTHORIZATION, HeaderName};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::document;
use super::call::{Call, Gone};
use super::personality::ScriptedDigestApi;

/// The account and the region of the registry.
pub const ACCOUNT: &str = "123456789012";
pub const REGION: &str = "eu-central-1";

/// The user that may do everything: by a key that lasts, and by a temporary one.
pub const KEY_ID: &str = "AKIAIOSFODNN7SCRIPTD";
pub const TEMPORARY_KEY_ID: &str = "ASIAIOSFODNN7SCRIPTD";
pub const SECRET_KEY: &str = "canary-secret-access-key-71c4";
pub const SESSION_TOKEN: &str = "canary-session-token-a03b";

/// `#` and the action of a call; nothing where it is none.
pub(super) fn action(request: &Request) -> String {
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok()?.rsplit_once('.'));
    target.map(|(_, action)| format!("#{action}")).unwrap_or_default()
}

/// Returns true if the request has a login that was given here.
pub(super) fn is_login(call: &Call) -> bool {
    let encoded = call.header(AUTHORIZATION).and_then(|value| value.strip_prefix("Basic "));
    let decoded = encoded.and_then(|encoded| String::from_utf8(STANDARD.decode(encoded).ok()?).ok());
    decoded.is_some_and(|login| login.strip_prefix("AWS:").is_some_and(|token| call.shared.tokens.is_given(token)))
}

/// Answers a request to the API; nothing if it is for another part.
pub(super) async fn api(call: &mut Call) -> Result<Option<Response>, Gone> {
    let Some(ScriptedDigestApi::Ecr { page }) = call.personality.digest_api else { return Ok(None) };
    if call.method != Method::POST || call.path != "/" {
        return Ok(None);
    }
    let body = call.body(1 << 16).await?.unwrap_or_default();
    if let Some(wrong) = wrong(call, &body) {
        return Ok(Some(wrong));
    }
    let target = call.header(HeaderName::from_static("x-amz-target")).unwrap_or_default();
    Ok(Some(match (target.strip_prefix("AmazonEC2ContainerRegistry_V20150921."), serde_json::from_slice(&body)) {
        (Some("GetAuthorizationToken"), Ok(_)) => login(call),
        (Some("ListImages"), Ok(ask)) => images(call, &ask, page),
        (Some("BatchDeleteImage"), Ok(ask)) => deleted(call, &ask),
        (Some("BatchCheckLayerAvailability"), Ok(ask)) => layers(call, &ask),
        (Some("CreateRepository"), Ok(ask)) => create(call, &ask),
        (Some("DeleteRepository"), Ok(ask)) => delete(call, &ask),
        (Some("SetRepositoryPolicy"), Ok(ask)) => set(call, &ask, "policyText"),
        (Some("PutLifecyclePolicy"), Ok(ask)) => set(call, &ask, "lifecyclePolicyText"),
        _ => refused("UnknownOperationException", ""),
    }))
}

fn login(call: &Call) -> Response {
    let life = Duration::from_secs(12 * 3600);
    let token = STANDARD.encode(format!("AWS:{}", call.shared.tokens.give(Vec::new(), life)));
    let expires_at = jiff::Timestamp::now().as_second() as f64 + life.as_secs_f64();
    let data = json!({ "authorizationToken": token, "expiresAt": expires_at, "proxyEndpoint": "https://ecr.example" });
    document(200, &json!({ "authorizationData": [data] }))
}

/// One entry for each tag, and for each image without one that is asked for.
fn images(call: &Call, ask: &Value, page: usize) -> Response {
    if ask["registryId"] != ACCOUNT || ask["maxResults"].as_u64().is_none_or(|most| most > 1000) {
        return refused("InvalidParameterException", "another account, or more than 1000 images");
    }
    let store = call.shared.store();
    let Some(found) = ask["repositoryName"].as_str().and_then(|name| store.repositories.get(name)) else {
        return refused("RepositoryNotFoundException", "The repository does not exist in the registry");
    };
    let tagged = found.tags.iter().map(|(tag, digest)| json!({ "imageDigest": digest, "imageTag": tag }));
    let is_untagged = |digest: &&String| !found.tags.values().any(|target| target == *digest);
    let wants_untagged = ask["filter"]["tagStatus"] != "TAGGED";
    let untagged = found.manifests.keys().filter(is_untagged).filter(|_| wants_untagged);
    let all: Vec<_> = tagged.chain(untagged.map(|digest| json!({ "imageDigest": digest }))).collect();
    let start = ask["nextToken"].as_str().map_or(0, |token| token.strip_prefix("opaque-").unwrap().parse().unwrap());
    let end = all.len().min(start + page);
    let mut answer = json!({ "imageIds": all[start..end] });
    if end < all.len() {
        answer["nextToken"] = json!(format!("opaque-{end}"));
    }
    document(200, &answer)
}

/// Removes the tags that are asked for, and with its last tag an image, unless an index of the repository needs it.
fn deleted(call: &Call, ask: &Value) -> Response {
    let images = ask["imageIds"].as_array().map(Vec::as_slice).unwrap_or_default();
    if ask["registryId"] != ACCOUNT || images.is_empty() || images.len() > 100 {
        return refused("InvalidParameterException", "another account, or no or more than 100 images");
    }
    let mut store = call.shared.store();
    let Some(found) = ask["repositoryName"].as_str().and_then(|name| store.repositories.get_mut(name)) else {
        return refused("RepositoryNotFoundException", "The repository does not exist in the registry");
    };
    let (mut gone, mut failures) = (Vec::new(), Vec::new());
    for image in images {
        let failed = |code: &str| json!({ "imageId": image, "failureCode": code, "failureReason": "see the guide" });
        let tag = image["imageTag"].as_str().unwrap_or_default();
        let Some(digest) = found.tags.get(tag).cloned() else {
            failures.push(failed("ImageNotFound"));
            continue;
        };
        let is_last = found.tags.values().filter(|target| **target == digest).count() == 1;
        let is_needed = found.manifests.values().any(|manifest| manifest.children().contains(&digest.as_str()));
        if is_last && is_needed {
            failures.push(failed("ImageReferencedByManifestList"));
            continue;
        }
        found.tags.remove(tag);
        if is_last {
            found.manifests.remove(&digest);
        }
        gone.push(json!({ "imageDigest": digest, "imageTag": tag }));
    }
    document(200, &json!({ "imageIds": gone, "failures": failures }))
}

/// Answers for each requested layer if it is there, and its size.
fn layers(call: &Call, ask: &Value) -> Response {
    let digests: Vec<&str> = ask["layerDigests"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ask["registryId"] != ACCOUNT || digests.is_empty() || digests.len() > 100 {
        return refused("InvalidParameterException", "another account, or no or more than 100 digests");
    }
    let store = call.shared.store();
    let Some(found) = ask["repositoryName"].as_str().and_then(|name| store.repositories.get(name)) else {
        return refused("RepositoryNotFoundException", "The repository does not exist in the registry");
    };
    let layer = |digest: &str| match store.contents.get(digest).filter(|_| found.blobs.contains(digest)) {
        Some(bytes) => json!({ "layerDigest": digest, "layerAvailability": "AVAILABLE", "layerSize": bytes.len() }),
        None => json!({ "layerDigest": digest, "layerAvailability": "UNAVAILABLE" }),
    };
    document(200, &json!({ "layers": digests.into_iter().map(layer).collect::<Vec<_>>(), "failures": [] }))
}

/// Creates a repository with the settings of the request.
fn create(call: &Call, ask: &Value) -> Response {
    let mut store = call.shared.store();
    let name = ask["repositoryName"].as_str().unwrap_or_default().to_owned();
    let is_known = ask["imageTagMutability"].is_null()
        || ["MUTABLE", "IMMUTABLE"].contains(&ask["imageTagMutability"].as_str().unwrap_or_default());
    let encryption = &ask["encryptionConfiguration"];
    let is_typed = encryption.is_null()
        || ["AES256", "KMS", "KMS_DSSE"].contains(&encryption["encryptionType"].as_str().unwrap_or_default());
    if ask["registryId"] != ACCOUNT || name.is_empty() || !is_known || !is_typed {
        return refused("InvalidParameterException", "Invalid parameter");
    }
    if store.repositories.contains_key(&name) {
        return refused("RepositoryAlreadyExistsException", "The repository already exists in the registry");
    }
    store.repositories.insert(name.clone(), Default::default());
    let mut settings = ask.clone();
    settings.as_object_mut().unwrap().retain(|field, _| !["registryId", "repositoryName"].contains(&field.as_str()));
    store.settings.insert(name.clone(), settings);
    document(200, &json!({ "repository": { "registryId": ACCOUNT, "repositoryName": name } }))
}

/// Deletes a repository that is empty.
fn delete(call: &Call, ask: &Value) -> Response {
    let mut store = call.shared.store();
    let name = ask["repositoryName"].as_str().unwrap_or_default();
    match store.repositories.get(name) {
        None => return refused("RepositoryNotFoundException", "The repository does not exist in the registry"),
        Some(found) if !found.manifests.is_empty() && ask["force"] != true => {
            return refused("RepositoryNotEmptyException", "The repository contains images");
        }
        Some(_) => {}
    }
    store.repositories.remove(name);
    store.settings.remove(name);
    document(200, &json!({ "repository": { "repositoryName": name } }))
}

/// Sets a policy, whose text has to be a JSON document.
fn set(call: &Call, ask: &Value, field: &str) -> Response {
    let mut store = call.shared.store();
    let name = ask["repositoryName"].as_str().unwrap_or_default().to_owned();
    let text = ask[field].as_str().unwrap_or_default();
    if !store.repositories.contains_key(&name) {
        return refused("RepositoryNotFoundException", "The repository does not exist in the registry");
    }
    let Ok(policy @ Value::Object(_)) = serde_json::from_str::<Value>(text) else {
        return refused("InvalidParameterException", "Invalid parameter: the policy is no JSON");
    };
    if field == "policyText" && policy["Statement"].is_null() {
        return refused("InvalidParameterException", "Invalid repository policy provided");
    }
    store.settings.entry(name.clone()).or_insert_with(|| json!({}))[field] = policy;
    document(200, &json!({ "registryId": ACCOUNT, "repositoryName": name }))
}

fn refused(name: &str, message: &str) -> Response {
    document(400, &json!({ "__type": format!("com.amazonaws.ecr#{name}"), "message": message }))
}

/// Returns the refusal of a request that is not signed as Signature Version 4 has it; nothing if it is.
fn wrong(call: &Call, body: &Bytes) -> Option<Response> {
    let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header("authorization");
    let part = |name: &str| {
        let after = authorization.split_once(&format!("{name}=")).map(|(_, after)| after);
        after.and_then(|after| after.split(',').next()).unwrap_or_default()
    };
    let (date, signed) = (header("x-amz-date"), part("SignedHeaders"));
    let day = date.get(..8).unwrap_or_default();
    let scope = format!("{day}/{REGION}/ecr/aws4_request");
    let token = match part("Credential").split_once('/') {
        Some((KEY_ID, of)) if of == scope => "",
        Some((TEMPORARY_KEY_ID, of)) if of == scope => SESSION_TOKEN,
        _ => {
            return Some(refused(
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ));
        }
    };
    let must = ["content-type", "host", "x-amz-date", "x-amz-target"];
    let is_recent = jiff::fmt::strtime::parse("%Y%m%dT%H%M%S%z", date.replace('Z', "+0000"))
        .and_then(|time| time.to_timestamp())
        .is_ok_and(|time| time.duration_until(jiff::Timestamp::now()).abs() < jiff::SignedDuration::from_mins(5));
    let lines: String = signed.split(';').map(|name| format!("{name}:{}\n", header(name))).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{signed}\n{}", hex(digest::digest(&digest::SHA256, body).as_ref()));
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let mut key = format!("AWS4{SECRET_KEY}").into_bytes();
    for step in [day, REGION, "ecr", "aws4_request", &format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{hashed}")] {
        key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes()).as_ref().to_vec();
    }
    let is_right = is_recent
        && must.iter().all(|name| signed.split(';').any(|found| found == *name))
        && header("x-amz-security-token") == token
        && part("Signature") == hex(&key);
    // As AWS does, it shows the request that it has seen.
    let seen = format!("The request signature does not match. The canonical string should have been '{canonical}'");
    (!is_right).then(|| refused("InvalidSignatureException", &seen))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
