//! Known traits of public registries: their token services and their limits on uploads.

use crate::registry::http::hosts::KnownRealm;
use crate::registry::upload::ladder::{Rung, UploadProfile};

/// Registries whose token service is on another host.
pub(crate) const KNOWN_REALMS: [KnownRealm; 5] = [
    KnownRealm { registry: "registry-1.docker.io", realm: "auth.docker.io" },
    KnownRealm { registry: "registry.gitlab.com", realm: "gitlab.com" },
    KnownRealm { registry: "registry.redhat.io", realm: "sso.redhat.com" },
    KnownRealm { registry: "registry.connect.redhat.com", realm: "sso.redhat.com" },
    KnownRealm { registry: "registry.digitalocean.com", realm: "api.digitalocean.com" },
];

/// Returns the limits on uploads that are known of the registry at `host` (canonical).
pub(crate) fn upload_profile(host: &str) -> UploadProfile {
    let is_under = |domain: &str| host == domain || host.strip_suffix(domain).is_some_and(|h| h.ends_with('.'));
    let default = UploadProfile::default();
    if is_under("azurecr.io") {
        // A streamed body of over about 20 MB fails.
        return UploadProfile { max_single_request: 20_000_000, ..default };
    }
    if host.contains(".dkr.ecr.") && (is_under("amazonaws.com") || is_under("amazonaws.com.cn")) {
        // The size of a layer part by the service quotas.
        return UploadProfile { chunk: 10 * 1024 * 1024, min_chunk: 5 * 1024 * 1024, ..default };
    }
    if is_under("pkg.dev") || is_under("gcr.io") || host == "ghcr.io" {
        // Google takes no chunks (skopeo#1101); of several, GitHub keeps the last.
        return UploadProfile { rungs: &[Rung::Put, Rung::Patch], ..default };
    }
    default
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::registry::http::hosts::Hosts;
    use crate::registry::upload::ladder::Ladder;

    #[test]
    fn the_great_registries_are_known() {
        // host; the first rung for a small and a large blob; the last rung; the chunk in MiB
        let table = [
            ("registry.example:5000", Rung::Put, Rung::Put, Rung::Chunks, 4),
            ("team.azurecr.io", Rung::Put, Rung::Chunks, Rung::Chunks, 4),
            ("azurecr.io.evil.example", Rung::Put, Rung::Put, Rung::Chunks, 4),
            ("notazurecr.io", Rung::Put, Rung::Put, Rung::Chunks, 4),
            ("europe-west1-docker.pkg.dev", Rung::Put, Rung::Put, Rung::Patch, 4),
            ("gcr.io", Rung::Put, Rung::Put, Rung::Patch, 4),
            ("eu.gcr.io", Rung::Put, Rung::Put, Rung::Patch, 4),
            ("ghcr.io", Rung::Put, Rung::Put, Rung::Patch, 4),
            ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", Rung::Put, Rung::Put, Rung::Chunks, 10),
        ];
        for (host, small, large, last, chunk) in table {
            let profile = upload_profile(host);
            assert_eq!(profile.rungs.last(), Some(&last), "{host}");
            let (ladder, now) = (Ladder::new(profile), Instant::now());
            assert_eq!((ladder.first(19_000_000, now), ladder.first(21_000_000, now)), (small, large), "{host}");
            assert_eq!(ladder.chunk(0, now), Some(chunk * 1024 * 1024), "{host}");
        }
    }

    #[test]
    fn credentials_go_to_the_known_token_services_of_their_registry_only() {
        let table = [
            ("https://docker.io", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", true),
            ("https://r.example", "https://auth.docker.io/token", false),
        ];
        for (registry, realm, expected) in table {
            let hosts = Hosts::new(&registry.parse().unwrap(), &[], &KNOWN_REALMS).unwrap();
            assert_eq!(hosts.realm(realm).is_ok(), expected, "{registry} {realm}");
        }
    }
}
