//! The table of routes: the router is built from it, `/openapi.json` is written from it, and tests walk along it.
//!
//! A dialect adds its routes with [`Routes::get`] and the like; there is no other way in, so no route can be forgotten by
//! the test that asks for a key on each.

use axum::{
    Router,
    handler::Handler,
    middleware,
    response::Response,
    routing::{MethodFilter, MethodRouter, on},
};

use crate::app::App;

/// One method of one path, as the table knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteInfo {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// The path as axum writes it: `/v1/models/{*id}`.
    pub path: &'static str,
    /// One line: what it does.
    pub summary: &'static str,
}

/// Routes of one dialect or of all.
#[derive(Default)]
pub struct Routes {
    list: Vec<RouteInfo>,
    methods: Vec<MethodRouter<App>>,
}

impl Routes {
    /// None.
    pub fn new() -> Self {
        Routes::default()
    }

    /// Adds a `GET` route; `HEAD` comes with it.
    pub fn get<T: 'static>(
        self,
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add("GET", MethodFilter::GET, path, summary, handler)
    }

    /// Adds a `POST` route.
    pub fn post<T: 'static>(
        self,
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add("POST", MethodFilter::POST, path, summary, handler)
    }

    /// Adds a `DELETE` route.
    pub fn delete<T: 'static>(
        self,
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.add("DELETE", MethodFilter::DELETE, path, summary, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: &'static str,
        filter: MethodFilter,
        path: &'static str,
        summary: &'static str,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.list.push(RouteInfo {
            method,
            path,
            summary,
        });
        self.methods.push(on(filter, handler));
        self
    }

    /// Adds all of another table.
    pub fn merge(mut self, other: Routes) -> Self {
        self.list.extend(other.list);
        self.methods.extend(other.methods);
        self
    }

    /// The table.
    pub fn list(&self) -> &[RouteInfo] {
        &self.list
    }

    /// The router of these routes.
    ///
    /// # Panics
    ///
    /// Two routes have the same method and path: a mistake of ours, and every test finds it.
    pub fn into_router(self) -> Router<App> {
        let routes = self.list.iter().zip(self.methods);
        routes.fold(Router::new(), |router, (info, methods)| {
            let route = Answered(info.path);
            let named = middleware::map_response(move |mut response: Response| async move {
                response.extensions_mut().insert(route);
                response
            });
            router.route(info.path, methods.layer(named))
        })
    }
}

/// The route that gave an answer, by its path in the table; left in the extensions of the response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered(pub &'static str);
