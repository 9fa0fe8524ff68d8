//! The route table: the handler for a method and a path, and the answer when there is none.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use hyper::Method;

use super::{
    path::{clean, escape},
    request::Request,
    response::{IntoResponse, Response},
};

type BoxedHandler =
    Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response> + Send>> + Send + Sync>;

/// The handler of a route: a function from [`Request`] to a future of a [`Response`], an
/// [`Error`](super::Error), or a `Result` of both.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> impl Future<Output = Response> + Send + 'static;
}

impl<F, Fut> Handler for F
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: IntoResponse> + Send + 'static,
{
    fn call(&self, request: Request) -> impl Future<Output = Response> + Send + 'static {
        let answer = self(request);
        async move { answer.await.into_response() }
    }
}

/// A method and a path, and their handler.
pub struct Route {
    method: Method,
    path: &'static str,
    handler: BoxedHandler,
    marked: bool,
    quiet: bool,
}

impl Route {
    /// A route. Elements of the path that start with a colon are parameters, see [`Request::param`].
    pub fn new(method: Method, path: &'static str, handler: impl Handler) -> Self {
        let handler: BoxedHandler = Box::new(move |request| Box::pin(handler.call(request)));
        Self { method, path, handler, marked: true, quiet: false }
    }

    /// Leaves the header `X-NSQ-Content-Type` out of the answers.
    #[must_use]
    pub fn unmarked(mut self) -> Self {
        self.marked = false;
        self
    }

    /// Leaves the answers out of the access log.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Adds one to `count` for every request.
    #[must_use]
    pub fn counted(mut self, count: Arc<AtomicU64>) -> Self {
        let handler = self.handler;
        self.handler = Box::new(move |request| {
            count.fetch_add(1, Ordering::Relaxed);
            handler(request)
        });
        self
    }

    /// The path, with the names of its parameters.
    pub fn path(&self) -> &'static str {
        self.path
    }

    pub(super) fn is_marked(&self) -> bool {
        self.marked
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Answers a request. The handler itself runs inside the future, its panics too.
    pub(super) async fn call(&self, request: Request) -> Response {
        (self.handler)(request).await
    }

    /// Returns the parameters, if `path` is one of this route; `equal` compares the elements that are no parameters.
    fn matches(&self, path: &str, equal: fn(&str, &str) -> bool) -> Option<Params> {
        let mut params = Vec::new();
        let mut elements = path.split('/');
        for pattern in self.path.split('/') {
            let element = elements.next()?;
            match pattern.strip_prefix(':') {
                Some(_) if element.is_empty() => return None,
                Some(name) => params.push((name, element.to_owned())),
                None if equal(pattern, element) => {}
                None => return None,
            }
        }
        elements.next().is_none().then_some(params)
    }

    /// The path of this route with these parameters.
    fn fill(&self, params: &Params) -> String {
        let mut params = params.iter();
        let fill = |pattern: &'static str| match pattern.strip_prefix(':') {
            Some(_) => params.next().map_or("", |(_, value)| value.as_str()).to_owned(),
            None => pattern.to_owned(),
        };
        self.path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

pub(super) type Params = Vec<(&'static str, String)>;

type Gate = Box<dyn Fn(&Request) -> Option<Response> + Send + Sync>;

/// The routes of a server.
#[derive(Default)]
pub struct Router {
    routes: Vec<Route>,
    /// Where in `routes` the paths without parameters are.
    plain: HashMap<&'static str, Vec<usize>>,
    /// Where in `routes` the paths with parameters are.
    patterns: Vec<usize>,
    gate: Option<Gate>,
}

/// The result of looking up a method and a path.
pub(super) enum Found<'a> {
    Route(&'a Route, Params),
    /// The path to be redirected to, escaped.
    Elsewhere(String),
    /// The path exists for these methods only.
    OtherMethods(String),
    Nothing,
}

impl Router {
    /// A table without routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route.
    ///
    /// # Panics
    /// When there is one with the same method and path, or the path does not start with a slash.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        assert!(route.path.starts_with('/'), "{route:?} does not start with a slash");
        let twice =
            self.routes.iter().any(|old| old.method == route.method && old.path == route.path);
        assert!(!twice, "{route:?} is declared twice");
        if route.path.contains("/:") {
            self.patterns.push(self.routes.len());
        } else {
            self.plain.entry(route.path).or_default().push(self.routes.len());
        }
        self.routes.push(route);
        self
    }

    /// Adds a GET route with the usual answers: marked and logged.
    #[must_use]
    pub fn get(self, path: &'static str, handler: impl Handler) -> Self {
        self.route(Route::new(Method::GET, path, handler))
    }

    /// Adds a POST route with the usual answers: marked and logged.
    #[must_use]
    pub fn post(self, path: &'static str, handler: impl Handler) -> Self {
        self.route(Route::new(Method::POST, path, handler))
    }

    /// Adds a PUT route with the usual answers: marked and logged.
    #[must_use]
    pub fn put(self, path: &'static str, handler: impl Handler) -> Self {
        self.route(Route::new(Method::PUT, path, handler))
    }

    /// Adds a DELETE route with the usual answers: marked and logged.
    #[must_use]
    pub fn delete(self, path: &'static str, handler: impl Handler) -> Self {
        self.route(Route::new(Method::DELETE, path, handler))
    }

    /// Asks `gate` before anything else: what it answers is sent, marked and not logged, and no route is looked
    /// up.
    #[must_use]
    pub fn gate(
        mut self,
        gate: impl Fn(&Request) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        self.gate = Some(Box::new(gate));
        self
    }

    pub(super) fn refuse(&self, request: &Request) -> Option<Response> {
        self.gate.as_ref().and_then(|gate| gate(request))
    }

    /// Looks up a path whose escapes are replaced.
    pub(super) fn find(&self, method: &Method, path: &str) -> Found<'_> {
        if let Some((route, params)) = self.exact(method, path) {
            return Found::Route(route, params);
        }
        if path != "/"
            && let Some(path) = self.nearly(method, path)
        {
            return Found::Elsewhere(escape(&path));
        }
        let mut methods: BTreeSet<&str> =
            self.matching(path).map(|(route, _)| route.method.as_str()).collect();
        if methods.is_empty() {
            return Found::Nothing;
        }
        methods.insert(Method::OPTIONS.as_str());
        Found::OtherMethods(Vec::from_iter(methods).join(", "))
    }

    fn exact(&self, method: &Method, path: &str) -> Option<(&Route, Params)> {
        self.matching(path).find(|(route, _)| route.method == method)
    }

    fn matching(&self, path: &str) -> impl Iterator<Item = (&Route, Params)> {
        let plain = self.plain.get(path).into_iter().flatten();
        let plain = plain.map(|index| (&self.routes[*index], Params::new()));
        let patterns = self.patterns.iter().map(|index| &self.routes[*index]);
        plain.chain(
            patterns.filter_map(move |route| Some((route, route.matches(path, |a, b| a == b)?))),
        )
    }

    /// The path of a route of this method that `path` was probably meant to be.
    fn nearly(&self, method: &Method, path: &str) -> Option<String> {
        let turned = turn_slash(path);
        if self.exact(method, &turned).is_some() {
            return Some(turned);
        }
        let cleaned = clean(path);
        [&cleaned, &turn_slash(&cleaned)].into_iter().find_map(|path| {
            let routes = self.routes.iter().filter(|route| route.method == method);
            routes
                .filter_map(|route| Some((route, route.matches(path, str::eq_ignore_ascii_case)?)))
                .map(|(route, params)| route.fill(&params))
                .next()
        })
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.routes).finish()
    }
}

/// The path with a slash at the end, or without it if it has one.
fn turn_slash(path: &str) -> String {
    match path.strip_suffix('/') {
        Some(path) if !path.is_empty() => path.to_owned(),
        _ => format!("{path}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Router {
        let ok = async |_: Request| Response::empty();
        Router::new()
            .get("/", ok)
            .get("/ping", ok)
            .post("/pub", ok)
            .get("/debug/", ok)
            .get("/config/:opt", ok)
            .put("/config/:opt", ok)
            .get("/api/Topics", ok)
            .get("/api/Topics/:topic/:channel", ok)
    }

    fn find(method: Method, path: &str) -> String {
        match router().find(&method, path) {
            Found::Route(route, params) => {
                params.iter().fold(format!("{route:?}"), |text, (k, v)| format!("{text} {k}={v}"))
            }
            Found::Elsewhere(path) => format!("-> {path}"),
            Found::OtherMethods(methods) => format!("only {methods}"),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_path_finds_its_route_and_parameters() {
        assert_eq!(find(Method::GET, "/ping"), "GET /ping");
        assert_eq!(find(Method::GET, "/"), "GET /");
        assert_eq!(find(Method::PUT, "/config/log_level"), "PUT /config/:opt opt=log_level");
        assert_eq!(
            find(Method::GET, "/api/Topics/t#e/c d"),
            "GET /api/Topics/:topic/:channel topic=t#e channel=c d"
        );
    }

    #[test]
    fn a_path_that_is_nearly_right_is_redirected_for_the_method_it_has() {
        for (path, to) in [
            ("/ping/", "-> /ping"),
            ("/PING", "-> /ping"),
            ("//ping", "-> /ping"),
            ("/Ping/", "-> /ping"),
            ("/x/../ping", "-> /ping"),
            ("/debug", "-> /debug/"),
            ("/DEBUG", "-> /debug/"),
            ("//", "-> /"),
            ("/config/x/", "-> /config/x"),
            ("/CONFIG/Log Level", "-> /config/Log%20Level"),
            ("/api/topics/", "-> /api/Topics"),
            ("/api/topics//T/C", "-> /api/Topics/T/C"),
        ] {
            assert_eq!(find(Method::GET, path), to, "{path}");
        }
        assert_eq!(find(Method::POST, "/PUB"), "-> /pub");
    }

    #[test]
    fn a_path_of_another_method_tells_the_methods_it_has() {
        assert_eq!(find(Method::HEAD, "/ping"), "only GET, OPTIONS");
        assert_eq!(find(Method::DELETE, "/config/x"), "only GET, OPTIONS, PUT");
        assert_eq!(find(Method::OPTIONS, "/pub"), "only OPTIONS, POST");
    }

    #[test]
    fn other_paths_are_not_found() {
        for path in ["/nope", "/ping/x", "/config/", "/config/a/b", "/pub/"] {
            assert_eq!(find(Method::GET, path), "nothing", "{path}");
        }
        assert_eq!(find(Method::DELETE, "/PUB"), "nothing");
    }

    #[test]
    #[should_panic(expected = "GET /ping is declared twice")]
    fn two_handlers_for_one_route_are_refused() {
        let _ = router().get("/ping", async |_: Request| Response::empty());
    }
}
