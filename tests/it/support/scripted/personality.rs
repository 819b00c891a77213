//! The behaviour of a registry as plain data: one switch for each thing in which registries differ. The place where a
//! difference was seen is named behind it; `docs/reference/registries.md` says how the client treats each.

/// The quirks of one registry. [`Personality::plain`] has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Personality {
    pub name: &'static str,

    // Uploads.
    /// The status of a PATCH that was taken: 202 by the specification; ECR 201 (tart#273, regclient#81), pulp and
    /// ggcr's test registry 204 (pulp_container#2199, ggcr#2265).
    pub patch_status: u16,
    pub patch: Patch,
    /// The `Range` of an answer to a chunk.
    pub progress: ProgressRange,
    pub location: Location,
    /// A PUT with the whole blob into a session that saw no PATCH is answered 404: old Artifactory (buildkit#1130,
    /// containerd#3533).
    pub put_needs_patch: bool,
    /// A body of over so many bytes is refused: ACR breaks off over about 20 MB (ocync docs), nginx and Cloudflare
    /// answer 413.
    pub body_limit: Option<(u64, Over)>,
    /// The status for a chunk at another place than the end of the upload: 416; Distribution 400 for the last PUT
    /// (spec#590).
    pub disorder: (u16, u16),
    /// `OCI-Chunk-Min-Length` of an opened session.
    pub chunk_min_length: Option<u64>,
    /// True if POST with `digest` and the blob is taken; else it is answered 202 (Distribution).
    pub single_post: bool,
    /// The status of DELETE on a tag: 202, or 405 where manifests are deleted by digest only (Harbor, ECR).
    pub delete_tag: u16,
    /// The status of DELETE on a session: 204; Distribution wants the `delete` scope for it (regclient), GCR has none
    /// of it.
    pub cancel: u16,
    pub mount: Mount,
    /// A second commit of a blob that is there makes the next manifest that names it be refused with `DIGEST_INVALID`
    /// and `MANIFEST_BLOB_UNKNOWN`: Distribution 2.8.2 on a file system, where the two overlap.
    pub commits_collide: bool,
    /// A repository has to be made before anything is pushed to it: ECR without a creation template.
    pub repositories_are_made: bool,

    // Manifests.
    /// The answers about a manifest that carry `Docker-Content-Digest`: (HEAD, GET, PUT). ECR leaves it out at
    /// times (distribution#3792), Nexus and Red Hat on HEAD (regclient#836, regclient PR 363).
    pub digest_header: (bool, bool, bool),
    /// HEAD on any manifest is refused so: CentOS 403 (containerd#6684), Nexus 404 (registry-cli#14, diun#1614).
    pub head_manifest: Option<u16>,
    /// The status for a manifest that is not there: 404; Artifactory's virtual repositories 403 (ggcr#1691).
    pub missing_manifest: u16,
    /// Manifests are served as `application/json`: a Harbor proxy cache (harbor#13740).
    pub forgets_media_types: bool,
    /// A manifest is taken only where each blob that it names is in the repository. The specification allows both.
    pub wants_blobs: bool,
    /// An index is taken only where each manifest that it names is in the repository: Distribution, Nexus, Harbor
    /// (regclient#836).
    pub wants_children: bool,
    /// Tags cannot be moved: a push to an existing tag is refused with `ImageTagAlreadyExistsException`, also of the
    /// same digest: ECR (containers-roadmap#878, #2380).
    pub tags_are_immutable: bool,
    /// The most bytes of a manifest; more is answered 413. The specification asks for 4 MiB.
    pub manifest_limit: usize,
    /// `?tag=` on a push by digest, answered with `OCI-Tag` (main of the specification).
    pub tag_parameter: bool,
    /// A tag `sha256-<hex>` that was never pushed is answered with that manifest itself: GitLab (oras-go#1396).
    pub digest_tags_are_aliases: bool,
    /// So many GETs of manifests, and no more: Docker Hub counts them, and not HEADs. The counters are in
    /// `ratelimit-remaining`.
    pub manifest_gets: Option<u32>,
    /// The seconds after which a GET counts no more.
    pub quota_window: u64,

    // Blobs.
    /// HEAD on any blob is refused so: an old Nexus 404 (registry-cli#14).
    pub head_blob: Option<u16>,
    pub serving: BlobServing,
    pub range: Range,
    /// Blobs are sent without `Content-Length`, and HEAD states 0: Harbor (its source says so of proxies).
    pub hides_lengths: bool,
    /// Blobs are gzipped on the way where the client does not ask for `identity`: Red Hat (quay#1310).
    pub gzips_blobs: bool,

    // Lists.
    pub pages: Pages,
    /// The `Link` of a page. Quay has a `next_page` token (docker_registry2#56, regclient#272).
    pub links: Links,
    /// The most that may be asked for with `n`; more is refused: ECR 1000 (ggcr#1091).
    pub largest_n: Option<usize>,
    /// Tags come in the order they were pushed in, not sorted. The specification says lexical, clients must not rely on
    /// it.
    pub unsorted: bool,
    /// Tags come with a `manifest` object of Google's own (ggcr's google list).
    pub google_lists: bool,
    /// Another API that lists what tags point at.
    pub digest_api: Option<ScriptedDigestApi>,
    /// The status of the catalog; 200 where there is one.
    pub catalog: u16,
    /// The referrers API; absent ones answer 404 (the table of the specification's conformance results).
    pub referrers: Option<Referrers>,
    /// A `Warning` header with this text on every manifest.
    pub warning: Option<&'static str>,

    pub login: Login,
}

/// The behaviour of PATCH.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// Takes any number of chunks.
    Chunks,
    /// Takes one only; the next one takes its place: GHCR (ocync docs).
    LastWins,
    /// 416 over so many bytes: GHCR on some paths (ocx#237, rust-oci-client#37).
    UpTo(u64),
    /// Refuses: Artifact Registry has monolithic uploads only (skopeo#1101, kitops#777).
    Refused,
}

/// The `Range` in answers to chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressRange {
    True,
    /// It stays at the end of the first chunk, though all are stored: ECR (containers-roadmap#2831).
    First,
    /// Of the first chunk it confirms so many bytes less than were sent, and those are all that is kept: zot
    /// (regclient#961).
    Short(u64),
}

/// The `Location` of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    Absolute,
    /// A path: ACR, and Distribution with `relativeurls`.
    Relative,
    /// The scheme and port of what is in front of it are not known to it: Distribution behind a proxy
    /// (distribution#2225, #2912).
    WrongOrigin,
    /// The other origin, which takes uploads without `Authorization` only.
    Elsewhere,
}

/// The end of a body that is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// 413.
    Answers,
    /// The connection breaks once so much came in.
    Breaks,
}

/// The answer to mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// 201 where the blob is, from anywhere if no `from` is named; else a session.
    Anywhere,
    /// As before, but a mount without `from` is refused with 400: Quay (regclient).
    From,
    /// A session always: registries without mounts, and ECR unless the account has opted in.
    Never,
    /// 201 only where a manifest of the source repository names the blob; else a session: ECR.
    Committed,
    /// Refused so whatever is asked.
    Refused(u16),
}

/// The origin that serves blobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobServing {
    Here,
    /// A redirect to the other origin, which refuses requests with an `Authorization` as S3 does ("Only one auth
    /// mechanism allowed", opa#6580, renovate#3877); where `signed_for_get`, it refuses HEAD with 403 too (moby#50065).
    /// A URL is good for `uses` requests, as it would be for some minutes (stargz-snapshotter#167).
    Redirect {
        signed_for_get: bool,
        uses: u32,
    },
}

/// The answer to a range of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    Served,
    /// 200 with everything: Distribution with a cold proxy cache (distribution#4667), CDNs.
    Ignored,
    /// 400: registry.k8s.io after a break (registry.k8s.io#333).
    Refused,
}

/// The length of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// Names in a page where none or more are asked for.
    pub names: usize,
    /// Descriptors in a page of referrers.
    pub referrers: usize,
}

/// The `Link` of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// `n` and `last`, on the same origin.
    Last,
    /// An opaque token.
    Token,
    /// To another host: a proxy is in front of the registry, which knows itself by another name.
    Elsewhere,
    /// To another list on another host: no registry does, an attacker may.
    Foreign,
    /// Without angle brackets.
    Bare,
    /// Without a relation.
    Unrelated,
    /// Behind links to the first and the previous page.
    Several,
}

/// An API that lists what tags point at, besides that of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScriptedDigestApi {
    /// `/api/v2.0` of Harbor.
    Harbor(HarborApi),
    /// ECR's API at `/`, signed with an access key; with the most images of a page, which are 1000 at ECR.
    Ecr { page: usize },
}

/// Harbor's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HarborApi {
    /// The most items of a page; Harbor gives 100.
    pub page: usize,
    /// True if the user may list artifacts: robots have each right on its own.
    pub may_list: bool,
    /// True if projects are proxy caches.
    pub is_proxy: bool,
}

/// The referrers API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Referrers {
    /// True if `artifactType` filters, which `OCI-Filters-Applied` then says.
    pub filters: bool,
}

/// The login of clients, as `transship` with the password `secret`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Login {
    /// Everybody may do everything.
    Anonymous,
    /// A password: ECR (whose token is one, good for 12 hours).
    Basic,
    Bearer(Bearer),
}

/// A token service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bearer {
    /// The path of the realm: `/token`, GitLab's `/jwt/auth`, ACR's `/oauth2/token`.
    pub path: &'static str,
    /// The `service` of the challenge.
    pub service: &'static str,
    /// True if it is on the other origin: Docker Hub's is on auth.docker.io.
    pub elsewhere: bool,
    /// For how many seconds a token is good; Docker Hub 300.
    pub life: f64,
    /// True if `expires_in` is in the answer; without it, it is 60 s by Docker's specification.
    pub has_expiry: bool,
    /// The field that holds the token: `token`, or ACR's `access_token`.
    pub field: &'static str,
    /// True if one can read without an account.
    pub anonymous_pull: bool,
    /// True if a token for several repositories is refused with 403: cgr.dev (ocync docs).
    pub one_repository: bool,
    /// True if a mount without the right to pull from the other repository is answered 401, and no session: GitLab
    /// (containers/image#1265).
    pub mount_wants_pull: bool,
    /// True if cancelling a session wants the `delete` scope: Distribution (regclient).
    pub cancel_wants_delete: bool,
    /// True if a token to push to an absent repository creates it, and one to pull from it grants nothing: Quay, for a
    /// robot that may create.
    pub creates_repositories: bool,
}

impl Personality {
    /// Returns everything as the distribution specification 1.1 has it, the optional parts included.
    pub const fn plain() -> Self {
        Self {
            name: "plain",
            patch_status: 202,
            patch: Patch::Chunks,
            progress: ProgressRange::True,
            location: Location::Absolute,
            put_needs_patch: false,
            body_limit: None,
            disorder: (416, 416),
            chunk_min_length: None,
            single_post: true,
            cancel: 204,
            delete_tag: 202,
            mount: Mount::Anywhere,
            commits_collide: false,
            repositories_are_made: false,
            digest_header: (true, true, true),
            head_manifest: None,
            missing_manifest: 404,
            forgets_media_types: false,
            wants_blobs: true,
            wants_children: false,
            tags_are_immutable: false,
            manifest_limit: 4 << 20,
            tag_parameter: true,
            digest_tags_are_aliases: false,
            manifest_gets: None,
            quota_window: 21_600,
            head_blob: None,
            serving: BlobServing::Here,
            range: Range::Served,
            hides_lengths: false,
            gzips_blobs: false,
            pages: Pages { names: 1000, referrers: 1000 },
            links: Links::Last,
            largest_n: None,
            unsorted: false,
            google_lists: false,
            digest_api: None,
            catalog: 200,
            referrers: Some(Referrers { filters: true }),
            warning: None,
            login: Login::Anonymous,
        }
    }
}

impl Bearer {
    /// Returns a token service as Docker's specification has it, on the registry's own host.
    pub const fn plain() -> Self {
        Self {
            path: "/token",
            service: "scripted",
            elsewhere: false,
            life: 300.0,
            has_expiry: true,
            field: "token",
            anonymous_pull: false,
            one_repository: false,
            mount_wants_pull: false,
            cancel_wants_delete: false,
            creates_repositories: false,
        }
    }
}
