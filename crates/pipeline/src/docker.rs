//! What scripts say to `docker`, as data: names of images, arguments of `docker build` and `docker run`.
//!
//! Nothing here asks anybody. Words are divided as a shell divides them; what an option asks for that no `Build` object and no Pod can
//! have is refused in words for whoever wrote it, and what makes no difference here is passed over.
//!
//! Options: <https://docs.docker.com/reference/cli/docker/buildx/build/>, <https://docs.docker.com/reference/cli/docker/container/run/>.
//! The plugin: <https://www.jenkins.io/doc/book/pipeline/docker/>.
//!
//! - [`name`]: names of images and registries
//! - [`words`]: a line as words
//! - [`build`]: `docker build`
//! - [`run`]: `docker run`

pub mod name;

pub mod words;

pub mod build;

pub mod run;

#[cfg(test)]
mod tests;
