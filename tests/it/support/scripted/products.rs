//! The registries that there are, as far as a client meets their differences.

use super::personality::*;

impl Personality {
    /// Returns every registry of this page.
    pub fn products() -> Vec<Self> {
        vec![
            Self::ecr(),
            Self::ghcr(),
            Self::docker_hub(),
            Self::artifact_registry(),
            Self::acr(),
            Self::quay(),
            Self::gitlab(),
            Self::harbor(),
            Self::artifactory(),
            Self::nexus(),
            Self::zot(),
            Self::distribution_2_8(),
            Self::distribution_3(),
        ]
    }

    /// Amazon ECR, private.
    pub fn ecr() -> Self {
        Self {
            name: "ecr",
            patch_status: 201,
            progress: ProgressRange::First,
            mount: Mount::Never,
            single_post: false,
            cancel: 405,
            repositories_are_made: true,
            digest_header: (true, false, true),
            tags_are_immutable: true,
            tag_parameter: false,
            serving: SIGNED,
            largest_n: Some(1000),
            unsorted: true,
            digest_api: Some(ScriptedDigestApi::Ecr { page: 1000 }),
            login: Login::Basic,
            delete_tag: 405,
            ..Self::plain()
        }
    }

    /// GitHub's container registry.
    pub fn ghcr() -> Self {
        Self {
            name: "ghcr",
            patch: Patch::LastWins,
            serving: SIGNED,
            referrers: None,
            tag_parameter: false,
            catalog: 404,
            login: Login::Bearer(Bearer { anonymous_pull: true, ..Bearer::plain() }),
            ..Self::plain()
        }
    }

    /// Docker Hub.
    pub fn docker_hub() -> Self {
        Self {
            name: "docker-hub",
            single_post: false,
            manifest_gets: Some(100),
            serving: SIGNED,
            referrers: None,
            tag_parameter: false,
            pages: Pages { names: 100, ..Self::plain().pages },
            catalog: 404,
            login: Login::Bearer(Bearer { elsewhere: true, anonymous_pull: true, ..Bearer::plain() }),
            ..Self::plain()
        }
    }

    /// Google's Artifact Registry.
    pub fn artifact_registry() -> Self {
        Self {
            name: "artifact-registry",
            patch: Patch::Refused,
            google_lists: true,
            tag_parameter: false,
            cancel: 405,
            login: Login::Bearer(Bearer { path: "/v2/token", ..Bearer::plain() }),
            ..Self::plain()
        }
    }

    /// Azure Container Registry. Its bodies end at 20 MB; here at 1 MB, so that tests are quick.
    pub fn acr() -> Self {
        Self {
            name: "acr",
            location: Location::Relative,
            body_limit: Some((1_000_000, Over::Breaks)),
            single_post: false,
            serving: SIGNED,
            tag_parameter: false,
            login: Login::Bearer(Bearer {
                path: "/oauth2/token",
                field: "access_token",
                has_expiry: false,
                ..Bearer::plain()
            }),
            ..Self::plain()
        }
    }

    /// Red Hat Quay.
    pub fn quay() -> Self {
        Self {
            name: "quay",
            mount: Mount::From,
            links: Links::Token,
            pages: Pages { names: 50, ..Self::plain().pages },
            serving: SIGNED,
            tag_parameter: false,
            login: Login::Bearer(Bearer { path: "/v2/auth", has_expiry: false, ..Bearer::plain() }),
            ..Self::plain()
        }
    }

    /// GitLab's registry.
    pub fn gitlab() -> Self {
        Self {
            name: "gitlab",
            digest_tags_are_aliases: true,
            single_post: false,
            referrers: None,
            tag_parameter: false,
            catalog: 401,
            login: Login::Bearer(Bearer { path: "/jwt/auth", mount_wants_pull: true, ..Bearer::plain() }),
            ..Self::plain()
        }
    }

    /// Harbor, with what its proxy caches leave out.
    pub fn harbor() -> Self {
        Self {
            name: "harbor",
            wants_children: true,
            forgets_media_types: true,
            hides_lengths: true,
            single_post: false,
            tag_parameter: false,
            pages: Pages { names: 100, ..Self::plain().pages },
            digest_api: Some(ScriptedDigestApi::Harbor(HarborApi { page: 100, may_list: true, is_proxy: false })),
            login: Login::Bearer(Bearer { path: "/service/token", service: "harbor-registry", ..Bearer::plain() }),
            delete_tag: 405,
            ..Self::plain()
        }
    }

    /// Artifactory, an old one, and a virtual repository.
    pub fn artifactory() -> Self {
        Self {
            name: "artifactory",
            missing_manifest: 403,
            put_needs_patch: true,
            single_post: false,
            mount: Mount::Refused(405),
            cancel: 405,
            tag_parameter: false,
            login: Login::Basic,
            ..Self::plain()
        }
    }

    /// Sonatype Nexus.
    pub fn nexus() -> Self {
        Self {
            name: "nexus",
            digest_header: (false, true, true),
            head_manifest: Some(404),
            head_blob: Some(404),
            wants_children: true,
            referrers: None,
            tag_parameter: false,
            login: Login::Basic,
            ..Self::plain()
        }
    }

    /// zot.
    pub fn zot() -> Self {
        Self { name: "zot", progress: ProgressRange::Short(10), wants_children: true, ..Self::plain() }
    }

    /// Distribution 2.8 behind a proxy that it knows nothing of.
    pub fn distribution_2_8() -> Self {
        Self {
            name: "distribution-2.8",
            location: Location::WrongOrigin,
            commits_collide: true,
            mount: Mount::From,
            ..Self::distribution_3()
        }
    }

    /// Distribution 3.
    pub fn distribution_3() -> Self {
        let login = Bearer { cancel_wants_delete: true, has_expiry: false, ..Bearer::plain() };
        Self {
            name: "distribution-3",
            disorder: (416, 400),
            single_post: false,
            wants_children: true,
            referrers: None,
            tag_parameter: false,
            login: Login::Bearer(login),
            ..Self::plain()
        }
    }
}

/// Blobs are served by a storage service, which wants no credentials.
const SIGNED: BlobServing = BlobServing::Redirect { signed_for_get: true, uses: 1 };
