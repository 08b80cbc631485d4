//! Comparisons of files with each other and with the code: the template, the manifests. Nothing is deployed.

mod manifest;
mod template;
