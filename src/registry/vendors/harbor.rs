//! Harbor's API: which artifact each tag points at.

use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::image::{Digest, RepositoryName};
use crate::registry::auth::token::Scopes;
use crate::registry::auth::{Authorization, basic};
use crate::registry::client::Credentials;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::session::{Fetched, Inner, RegistryRequest};
use crate::registry::vendors::digest_apis::DigestLookup;

/// A repository in a Harbor.
pub(crate) struct HarborRepository<'a> {
    inner: &'a Inner,
    project: &'a str,
    /// Its name inside the project.
    name: &'a str,
}

impl Inner {
    /// `repository`, if this registry is a Harbor whose API takes the credentials: the last challenge says so, without a request.
    pub(crate) fn harbor<'a>(&'a self, repository: &'a RepositoryName) -> Option<HarborRepository<'a>> {
        let service = self.auth.token_service()?;
        let is_harbor = service.service.as_deref() == Some(SERVICE) && service.realm.path().ends_with(TOKEN_PATH);
        let has_login = matches!(self.auth.credentials, Credentials::Anonymous | Credentials::Basic { .. });
        let (project, name) = repository.as_str().split_once('/')?;
        (is_harbor && has_login && self.site.is_own_host(&service.realm)).then_some(HarborRepository {
            inner: self,
            project,
            name,
        })
    }
}

impl HarborRepository<'_> {
    pub(crate) fn project(&self) -> &str {
        self.project
    }

    /// Sees that the project holds what it lists. A proxy cache does not: it asks its upstream when a tag is pulled, and lists
    /// what it was before.
    ///
    /// The list of projects is asked, which everybody may see who may see the project; a robot may not always read the project itself.
    ///
    /// # Errors
    /// `Unsupported` if it is a proxy cache, or cannot be seen.
    pub(crate) async fn check(&self, task: &Operation) -> Result<(), RegistryError> {
        let query = [("q", format!("name={}", self.project)), ("with_detail", "false".to_owned())];
        let (_, projects) = self.get::<Project>("/api/v2.0/projects", &query, task).await?;
        match projects.iter().find(|project| project.name == self.project) {
            Some(project) if project.registry_id.unwrap_or_default() == 0 => Ok(()),
            Some(_) => Err(task.error(ErrorKind::Unsupported, "the project is a proxy cache")),
            None => Err(task.error(ErrorKind::Unsupported, "Harbor's API does not show the project")),
        }
    }

    /// Reads pages into `told` for as long as they cost less than asking for what is lacking.
    ///
    /// # Errors
    /// Whatever a page fails with; `told` keeps what the others said.
    pub(crate) async fn read(&self, told: &mut DigestLookup<'_>, task: &Operation) -> Result<(), RegistryError> {
        // Slashes are encoded twice: Harbor decodes the path, and then the name.
        let path =
            format!("/api/v2.0/projects/{}/repositories/{}/artifacts", self.project, self.name.replace('/', "%252F"));
        let mut seen = 0;
        for page in 1..=told.lacking() {
            let query = [
                // Neither what has no tag nor what belongs to an index.
                ("q", "tags=*".to_owned()),
                ("with_tag", "true".to_owned()),
                ("page", page.to_string()),
                ("page_size", PAGE_SIZE.to_string()),
            ];
            let (total, artifacts) = self.get::<Artifact>(&path, &query, task).await?;
            for artifact in &artifacts {
                let digest: Digest = artifact.digest.parse().map_err(|_| odd(task))?;
                artifact.tags.iter().flatten().for_each(|tag| told.take(&tag.name, &digest));
            }
            seen += artifacts.len();
            let pages_left = total.saturating_sub(seen).div_ceil(artifacts.len().max(1));
            if artifacts.is_empty() || pages_left == 0 || told.lacking() <= pages_left {
                break;
            }
        }
        Ok(())
    }

    /// One page of a list, and how many items the whole list has.
    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        task: &Operation,
    ) -> Result<(usize, Vec<T>), RegistryError> {
        let mut url: Url = self.inner.site.at(path);
        url.query_pairs_mut().extend_pairs(query);
        // Harbor takes the tokens of its own token service for the distribution API only.
        let login = Authorization::with(basic(&self.inner.auth.credentials));
        let request =
            RegistryRequest { login: Some(login), ..RegistryRequest::new(Method::GET, url, Scopes::default(), task) };
        let fetched = {
            let _permit = self.inner.read_permit().await;
            self.inner.fetch(&request, MAX_PAGE_BYTES).await?
        };
        match fetched {
            Fetched::Good { url, headers, body } if self.inner.site.is_own_origin(&url) => {
                let total = headers.get(TOTAL).and_then(|total| total.to_str().ok()?.parse().ok());
                total.zip(serde_json::from_slice(&body).ok()).ok_or_else(|| odd(task))
            }
            Fetched::Good { .. } => Err(task.error(ErrorKind::InvalidContent, "Harbor's API leads to another host")),
            Fetched::Refused(refusal) => Err(refusal.error(task)),
        }
    }
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

fn odd(task: &Operation) -> RegistryError {
    task.error(ErrorKind::InvalidContent, "Harbor's API answered with another document than a list")
}

/// The service and the end of the realm that Harbor's challenges name.
const SERVICE: &str = "harbor-registry";
const TOKEN_PATH: &str = "/service/token";

const TOTAL: &str = "x-total-count";

/// The most that Harbor gives.
const PAGE_SIZE: usize = 100;

const MAX_PAGE_BYTES: usize = 8 * 1024 * 1024;
