//! The method of requests to an auth server.

/// The method of requests to an auth server.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AuthMethod {
    /// GET, with the parameters in the query.
    Get,
    /// POST, with the parameters in a JSON body.
    Post,
}

impl AuthMethod {
    /// The methods by the words that name them.
    pub(super) const WORDS: [(&str, Self); 2] = [("post", Self::Post), ("get", Self::Get)];
}
