//! Parameters of paths and queries, with typed refusals.

use std::{collections::HashMap, str::FromStr};

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::fault::Fault;

/// The one parameter of a path. What does not parse cannot exist, and so is not found.
pub(crate) struct Id<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for Id<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<HashMap<String, String>>::from_request_parts(parts, state).await;
        let Path(values) = path.map_err(|_| Fault::not_found())?;
        let value = values.into_values().next().ok_or_else(Fault::not_found)?;
        value.parse().map(Self).map_err(|_| Fault::not_found())
    }
}

/// The query of a list.
pub(crate) struct List<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for List<T> {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(value)| Self(value)).map_err(|_| Fault::invalid("the query does not parse"))
    }
}
