//! Harbor's API: lists the artifacts of a repository with their tags, and deletes a tag.

mod projects;

pub(super) use self::projects::create_project;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::image::{Digest, RepositoryName, Tag};
use crate::registry::auth::credentials::Credentials;
use crate::registry::auth::scopes::Scopes;
use crate::registry::content::manifests::DeletionAnswer;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::limiter::Load;
use crate::registry::session::{Fetched, RegistryRequest, Session};
use crate::registry::vendors::digest_lookup::DigestLookup;

/// A repository in a Harbor.
pub(super) struct HarborRepository<'a> {
    session: &'a Session,
    /// The rights to read it, which decide about the login.
    scopes: Scopes,
    project: &'a str,
    /// The name inside the project.
    name: &'a str,
}

impl<'a> HarborRepository<'a> {
    /// Returns `repository`, if this registry is a Harbor whose API accepts the credentials. The last challenge shows
    /// that, without a request.
    pub(super) fn of(session: &'a Session, repository: &'a RepositoryName) -> Option<Self> {
        let scopes = Scopes::pull(repository);
        let has_login =
            matches!(session.auth().credentials(&scopes), Credentials::Anonymous | Credentials::Basic { .. });
        let (project, name) = repository.as_str().split_once('/')?;
        (is_harbor(session) && has_login).then_some(Self { session, scopes, project, name })
    }

    pub(super) fn project(&self) -> &str {
        self.project
    }

    /// Checks that the project holds the artifacts that it lists. A proxy cache does not: it asks its upstream when a
    /// tag is pulled, and lists the former state.
    ///
    /// Reads the list of projects, which shows the project to everyone with access to it; a robot account may not
    /// always read the project itself.
    ///
    /// # Errors
    /// `Unsupported` if the project is a proxy cache, or not shown.
    pub(super) async fn check(&self, operation: &Operation) -> Result<(), RegistryError> {
        let query = [("q", format!("name={}", self.project)), ("with_detail", "false".to_owned())];
        let (_, projects) = self.get::<Project>(PROJECTS, &query, operation).await?;
        match projects.iter().find(|project| project.name == self.project) {
            Some(project) if project.registry_id.unwrap_or_default() == 0 => Ok(()),
            Some(_) => Err(operation.error(ErrorKind::Unsupported, "the project is a proxy cache")),
            None => Err(operation.error(ErrorKind::Unsupported, "Harbor's API does not show the project")),
        }
    }

    /// Reads pages into `lookup` for as long as they cost less than HEADs for the missing tags.
    ///
    /// # Errors
    /// The error of a page; `lookup` keeps the digests of the others.
    pub(super) async fn list_artifacts(
        &self,
        lookup: &mut DigestLookup<'_>,
        operation: &Operation,
    ) -> Result<(), RegistryError> {
        let path = self.artifacts();
        let mut seen = 0;
        for page in 1..=lookup.missing() {
            let query = [
                // Neither untagged artifacts nor the children of an index.
                ("q", "tags=*".to_owned()),
                ("with_tag", "true".to_owned()),
                ("page", page.to_string()),
                ("page_size", PAGE_SIZE.to_string()),
            ];
            let (total, artifacts) = self.get::<Artifact>(&path, &query, operation).await?;
            for artifact in &artifacts {
                let digest: Digest = artifact.digest.parse().map_err(|_| unexpected(operation))?;
                artifact.tags.iter().flatten().for_each(|tag| lookup.add(&tag.name, &digest));
            }
            seen += artifacts.len();
            let pages_left = total.saturating_sub(seen).div_ceil(artifacts.len().max(1));
            if artifacts.is_empty() || pages_left == 0 || lookup.missing() <= pages_left {
                break;
            }
        }
        Ok(())
    }

    /// Deletes a tag of the artifact with `digest`; a tag that points elsewhere is no tag of it.
    ///
    /// # Errors
    /// `Denied` and `Unauthorized` if the credentials do not permit it; `Rejected` for an immutable tag.
    pub(super) async fn delete_tag(
        &self,
        tag: &Tag,
        digest: &Digest,
        operation: &Operation,
    ) -> Result<DeletionAnswer, RegistryError> {
        let http = self.session.http();
        let url = http.hosts().at(&format!("{}/{digest}/tags/{tag}", self.artifacts()));
        let request = RegistryRequest::new(Method::DELETE, url, Scopes::default(), operation)
            .with_authorization(self.session.auth().credentials(&self.scopes).basic());
        let _permit = http.write_permit(Load::Small).await;
        let response = self.session.call(&request).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(DeletionAnswer::Done);
        }
        let refused = response.into_error_response(http.deadlines()).await;
        if status.as_u16() == 404 { Ok(DeletionAnswer::Absent) } else { Err(refused.error(operation)) }
    }

    /// Returns the path of the artifacts. Slashes are encoded twice: Harbor decodes the path, and then the name.
    fn artifacts(&self) -> String {
        format!("/api/v2.0/projects/{}/repositories/{}/artifacts", self.project, self.name.replace('/', "%252F"))
    }

    /// Reads one page of a list; returns the length of the whole list and the items of the page.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        operation: &Operation,
    ) -> Result<(usize, Vec<T>), RegistryError> {
        let mut url: Url = self.session.http().hosts().at(path);
        url.query_pairs_mut().extend_pairs(query);
        // Harbor takes the tokens of its own token service for the distribution API only.
        let request = RegistryRequest::new(Method::GET, url, Scopes::default(), operation)
            .with_authorization(self.session.auth().credentials(&self.scopes).basic());
        match self.session.fetch_small(&request, MAX_PAGE_BYTES).await? {
            Fetched::Document { url, headers, body } if self.session.http().hosts().is_own_origin(&url) => {
                let total = headers.get(TOTAL).and_then(|total| total.to_str().ok()?.parse().ok());
                total.zip(serde_json::from_slice(&body).ok()).ok_or_else(|| unexpected(operation))
            }
            Fetched::Document { .. } => {
                Err(operation.error(ErrorKind::InvalidContent, "Harbor's API leads to another host"))
            }
            Fetched::Refused(refused) => Err(refused.error(operation)),
        }
    }
}

/// Returns true if the last challenge was that of a Harbor, with the token service on its own host.
pub(super) fn is_harbor(session: &Session) -> bool {
    session.auth().token_service().is_some_and(|service| {
        service.service.as_deref() == Some(SERVICE)
            && service.realm.path().ends_with(TOKEN_PATH)
            && session.http().hosts().is_own_host(&service.realm)
    })
}

#[derive(Deserialize)]
struct Project {
    name: String,
    /// The upstream of a proxy cache.
    registry_id: Option<i64>,
}

#[derive(Deserialize)]
struct Artifact {
    digest: String,
    tags: Option<Vec<ArtifactTag>>,
}

#[derive(Deserialize)]
struct ArtifactTag {
    name: String,
}

fn unexpected(operation: &Operation) -> RegistryError {
    operation.error(ErrorKind::InvalidContent, "Harbor's API answered with another document than a list")
}

/// The service, and the end of the realm, in Harbor's challenges.
const SERVICE: &str = "harbor-registry";
const TOKEN_PATH: &str = "/service/token";

/// The list of projects, which also takes new ones.
const PROJECTS: &str = "/api/v2.0/projects";

const TOTAL: &str = "x-total-count";

/// The largest page that Harbor returns.
const PAGE_SIZE: usize = 100;

const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
