//! Signs requests with AWS Signature Version 4: the secret key signs, and never leaves.

use aws_lc_rs::{digest, hmac};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::image::hex;

/// The key, service and time of a signature.
pub(super) struct Signer<'a> {
    /// The id of the access key.
    pub(super) key_id: &'a str,
    /// The secret access key.
    pub(super) secret: &'a str,
    /// The region of the service, such as `us-east-1`.
    pub(super) region: &'a str,
    /// The service, such as `ecr`.
    pub(super) service: &'a str,
    /// The time of the signature: AWS accepts a difference of 5 minutes.
    pub(super) at: Timestamp,
}

impl Signer<'_> {
    /// Returns the value of `X-Amz-Date`, which must be among the headers.
    pub(super) fn date(&self) -> String {
        self.at.to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    /// Returns the value of `Authorization` for a request to the path `/` without a query. `headers` are those to sign,
    /// `host` among them: names in lower case, values without spaces around them.
    pub(super) fn authorization(&self, method: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut headers = headers.to_vec();
        headers.sort_unstable();
        let signed = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let canonical = format!("{method}\n/\n\n{lines}\n{signed}\n{}", sha256(body));
        let date = self.date();
        let day = &date[..8];
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", sha256(canonical.as_bytes()));
        let signature = hex(keyed(&self.key(day), &to_sign).as_ref());
        format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}", self.key_id)
    }

    /// Returns the key of one day, region and service.
    fn key(&self, day: &str) -> Vec<u8> {
        let first = format!("AWS4{}", self.secret).into_bytes();
        let parts = [day, self.region, self.service, "aws4_request"];
        parts.iter().fold(first, |key, part| keyed(&key, part).as_ref().to_vec())
    }
}

fn keyed(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const HOST: (&str, &str) = ("host", "example.amazonaws.com");
    const DATE: (&str, &str) = ("x-amz-date", "20150830T123600Z");

    fn signer(at: &str, service: &'static str) -> Signer<'static> {
        let at = at.parse().unwrap();
        Signer { key_id: "AKIDEXAMPLE", secret: SECRET, region: "us-east-1", service, at }
    }

    /// Name, method, headers, body and signature.
    type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str);

    /// Cases of the signing test suite that AWS publishes (aws-c-auth, `tests/aws-signing-test-suite/v4`).
    #[test]
    fn signatures_are_those_of_the_test_suite_of_aws() {
        const TOKEN: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let form = [
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-amz-content-sha256", "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"),
            ("content-length", "13"),
            HOST,
            DATE,
        ];
        let table: [Case; 5] = [
            (
                "get-vanilla",
                "GET",
                &[HOST, DATE],
                "",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                "post-vanilla",
                "POST",
                &[HOST, DATE],
                "",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "get-vanilla-with-session-token",
                "GET",
                &[HOST, DATE, ("x-amz-security-token", TOKEN)],
                "",
                "07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
            ),
            (
                "post-x-www-form-urlencoded",
                "POST",
                &form,
                "Param1=value1",
                "d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
            ),
            (
                "post-header-key-sort",
                "POST",
                &[DATE, ("my-header1", "value1"), HOST],
                "",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
            ),
        ];
        let signer = signer("2015-08-30T12:36:00Z", "service");
        assert_eq!(signer.date(), DATE.1);
        for (name, method, headers, body, expected) in table {
            let authorization = signer.authorization(method, headers, body.as_bytes());
            let (front, signature) = authorization.split_once(", Signature=").unwrap();
            assert_eq!(signature, expected, "{name}");
            let scope =
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=";
            assert!(front.starts_with(scope) && !authorization.contains(SECRET), "{name}: {front}");
        }
    }

    /// The example of AWS' guide to deriving a signing key.
    #[test]
    fn a_signing_key_is_derived_as_aws_shows_it() {
        let key = signer("2015-08-30T00:00:00Z", "iam").key("20150830");
        assert_eq!(hex(&key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }
}
