//! Creates projects at a Harbor.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use serde_json::json;

use super::{PROJECTS, is_harbor};
use crate::image::RepositoryName;
use crate::registry::auth::scopes::Scopes;
use crate::registry::error::{ErrorKind, Operation, RegistryError};
use crate::registry::http::limiter::Load;
use crate::registry::http::response::HttpResponse;
use crate::registry::session::{RegistryRequest, Session};
use crate::terms::ProjectVisibility;

/// Creates the project of `repository` where it does not exist. One that exists stays as it is.
///
/// # Errors
/// `Unsupported` if the registry is no Harbor; `Denied` if the user may create no project.
pub(in crate::registry::vendors) async fn create_project(
    session: &Session,
    repository: &RepositoryName,
    visibility: ProjectVisibility,
    operation: &Operation,
) -> Result<(), RegistryError> {
    if !is_harbor(session) {
        return Err(operation.error(ErrorKind::Unsupported, "it is no Harbor, which has projects"));
    }
    let Some((project, _)) = repository.as_str().split_once('/') else {
        return Err(operation.error(ErrorKind::Rejected, "a repository of Harbor is in a project: its name has a /"));
    };
    let found = call(session, repository, Method::HEAD, Some(project), None, operation).await?;
    if found.status() != StatusCode::NOT_FOUND {
        return accepted(session, found, operation).await;
    }
    let public = if visibility == ProjectVisibility::Public { "true" } else { "false" };
    let project = json!({ "project_name": project, "metadata": { "public": public } });
    let created = call(session, repository, Method::POST, None, Some(project.to_string().into()), operation).await?;
    if created.status() == StatusCode::CONFLICT {
        return Ok(()); // Another copy was faster.
    }
    accepted(session, created, operation).await
}

async fn call(
    session: &Session,
    repository: &RepositoryName,
    method: Method,
    project: Option<&str>,
    body: Option<Bytes>,
    operation: &Operation,
) -> Result<HttpResponse, RegistryError> {
    let mut url = session.http().hosts().at(PROJECTS);
    if let Some(project) = project {
        url.query_pairs_mut().append_pair("project_name", project);
    }
    // Harbor takes the tokens of its own token service for the distribution API only.
    let authorization = session.auth().credentials(&Scopes::pull(repository)).basic();
    let mut request = RegistryRequest::new(method, url, Scopes::default(), operation).with_authorization(authorization);
    if let Some(body) = body {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
    }
    let _permit = session.http().write_permit(Load::Small).await;
    session.call(&request).await
}

async fn accepted(session: &Session, response: HttpResponse, operation: &Operation) -> Result<(), RegistryError> {
    if response.status().is_success() {
        return Ok(());
    }
    Err(response.into_error_response(session.http().deadlines()).await.error(operation))
}
