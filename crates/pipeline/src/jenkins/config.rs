//! A pipeline as Jenkins' `config.xml`, and back.
//!
//! Read are jobs of the kind Pipeline (`flow-definition`, with a script or one from Git) and, as a script that does the same, freestyle
//! projects whose steps are shell scripts. What a Pipeline has and Jenkins has not (agents, service account, webhook) is not in the
//! document, and stays what it was when a document is put in its place.

use serde_json::Value as Json;

use crate::{
    kind::{Concurrency, Git, Named, Parameter, Retention, Spec, Triggers, Upstream},
    left::discard,
    xml::{self, Element, escaped},
};

/// Bytes of a document.
pub const MOST_BYTES: usize = 2 << 20;
/// Elements of one.
const MOST_ELEMENTS: usize = 20_000;
/// Where repositories are, as runs see them.
const HOST: &str = "https://git.madang.internal/";

/// Kinds of parameters with the classes that they are of.
pub const PARAMETERS: [(&str, &str); 8] = [
    ("string", "hudson.model.StringParameterDefinition"),
    ("text", "hudson.model.TextParameterDefinition"),
    ("boolean", "hudson.model.BooleanParameterDefinition"),
    ("choice", "hudson.model.ChoiceParameterDefinition"),
    ("password", "hudson.model.PasswordParameterDefinition"),
    ("credentials", "com.cloudbees.plugins.credentials.CredentialsParameterDefinition"),
    ("run", "hudson.model.RunParameterDefinition"),
    ("file", "hudson.model.FileParameterDefinition"),
];

/// What a pipeline of a namespace is after a document was put in the place of `before`.
///
/// # Errors
/// The document is none, or of a job that cannot be one here.
pub fn read(document: &[u8], namespace: &str, before: &Spec) -> Result<Spec, String> {
    let root = xml::read(document, MOST_ELEMENTS).map_err(|error| format!("config.xml: {error}"))?;
    let mut spec = Spec { description: text(&root, "description"), ..before.clone() };
    (spec.repository, spec.git, spec.script, spec.script_path) = (None, None, None, None);
    spec.suspend = root.text_of("disabled").is_some_and(|text| text.trim() == "true");
    match root.name.as_str() {
        "flow-definition" => definition(&root, namespace, before, &mut spec)?,
        "project" => spec.script = Some(freestyle(&root)?),
        other => {
            return Err(format!(
                "config.xml describes a {other}: pipelines (flow-definition) and projects of shell steps are known"
            ));
        }
    }
    let none = Element::default();
    let properties = root.child("properties").unwrap_or(&none);
    spec.parameters = parameters(properties)?;
    spec.retention = retention(&root, properties)?;
    let concurrency =
        properties.children.iter().find(|child| child.name.ends_with("DisableConcurrentBuildsJobProperty"));
    spec.concurrency = concurrency.map(|found| match found.text_of("abortPrevious").map(str::trim) {
        Some("true") => Concurrency::Replace,
        _ => Concurrency::Queue,
    });
    let declared = properties.children.iter().find(|child| child.name.ends_with("PipelineTriggersJobProperty"));
    let declared = declared.and_then(|property| property.child("triggers")).or_else(|| root.child("triggers"));
    spec.triggers = triggers(declared.unwrap_or(&none), before)?;
    Ok(spec)
}

fn text(element: &Element, name: &str) -> Option<String> {
    element.text_of(name).map(str::trim).filter(|text| !text.is_empty()).map(str::to_string)
}

fn definition(root: &Element, namespace: &str, before: &Spec, spec: &mut Spec) -> Result<(), String> {
    let definition = root.child("definition").ok_or("config.xml: a pipeline has a definition")?;
    let class = definition.attribute("class").unwrap_or_default();
    if class.ends_with("CpsFlowDefinition") {
        spec.script = Some(definition.text_of("script").unwrap_or_default().to_string());
        return Ok(());
    }
    if !class.ends_with("CpsScmFlowDefinition") {
        return Err(format!("config.xml: the definition {class:?} is not known: a script, or one from Git, is"));
    }
    let scm = definition.child("scm").ok_or("config.xml: the definition has no scm")?;
    if !scm.attribute("class").unwrap_or_default().ends_with("GitSCM") {
        return Err("config.xml: scripts come from Git".into());
    }
    let remotes = scm.child("userRemoteConfigs").ok_or("config.xml: the scm has no userRemoteConfigs")?;
    let [remote] = remotes.children.as_slice() else {
        return Err("config.xml: the scm has one remote".into());
    };
    let url = text(remote, "url").ok_or("config.xml: the remote has no url")?;
    match own(&url, namespace) {
        Some(name) => spec.repository = Some(Named { name }),
        None => spec.git = Some(Git { url, credentials_id: text(remote, "credentialsId") }),
    }
    spec.script_path = text(definition, "scriptPath");
    let branches = scm.child("branches").map(|branches| branches.children.as_slice()).unwrap_or_default();
    let names = branches.iter().filter_map(|branch| text(branch, "name"));
    spec.branches = names.map(|name| branch(&name)).collect();
    // One that says nothing says nothing here either.
    if spec.branches == ["**"] && before.branches.is_empty() {
        spec.branches.clear();
    }
    Ok(())
}

/// The name of a repository that is served here, in the same namespace.
fn own(url: &str, namespace: &str) -> Option<String> {
    let path = match url.split_once("/git/") {
        Some((server, path)) if server.starts_with("http://127.0.0.1") || server.starts_with("http://localhost") => {
            path
        }
        _ => url.strip_prefix(HOST)?,
    };
    let (found, name) = path.split_once('/')?;
    let name = name.strip_suffix(".git").unwrap_or(name);
    (found == namespace && !name.is_empty() && !name.contains('/')).then(|| name.to_string())
}

/// `*/main`, `origin/main`, `refs/heads/main` are all `main`.
fn branch(name: &str) -> String {
    let plain = ["*/", "origin/", "refs/heads/", "refs/remotes/origin/"];
    plain.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_string()
}

/// A project's steps as a script.
fn freestyle(root: &Element) -> Result<String, String> {
    let mut script = String::from("node {\n");
    for step in root.child("builders").map(|builders| builders.children.as_slice()).unwrap_or_default() {
        if step.name != "hudson.tasks.Shell" {
            return Err(format!("config.xml: the step {} is not known in a project: write a pipeline", step.name));
        }
        let command = step.text_of("command").unwrap_or_default().replace('\\', "\\\\").replace('\'', "\\'");
        script.push_str(&format!("    sh '''{command}'''\n"));
    }
    if root.child("publishers").is_some_and(|publishers| !publishers.children.is_empty()) {
        return Err("config.xml: publishers of a project are not known: write a pipeline".into());
    }
    script.push_str("}\n");
    Ok(script)
}

fn parameters(properties: &Element) -> Result<Vec<Parameter>, String> {
    let path = ["hudson.model.ParametersDefinitionProperty", "parameterDefinitions"];
    let Some(definitions) = properties.below(&path) else { return Ok(Vec::new()) };
    let one = |element: &Element| {
        let known = PARAMETERS.iter().find(|(_, class)| *class == element.name);
        let (kind, _) = known.ok_or_else(|| format!("config.xml: the parameter {} is not known", element.name))?;
        let name = text(element, "name").ok_or("config.xml: a parameter has no name")?;
        let default = element.text_of("defaultValue");
        let mut choices = Vec::new();
        if let Some(list) = element.child("choices") {
            strings(list, &mut choices);
        }
        Ok(Parameter {
            name,
            kind: (*kind).to_string(),
            description: text(element, "description").unwrap_or_default(),
            default: match (*kind, default) {
                (_, None) => Json::Null,
                ("boolean", Some(value)) => Json::Bool(value.trim() == "true"),
                // A password that Jenkins has sealed with a key of its own is of no use here.
                ("password", Some(value)) if value.starts_with('{') => Json::Null,
                (_, Some(value)) => value.into(),
            },
            choices,
        })
    };
    definitions.children.iter().map(one).collect()
}

/// All elements `string`, in whatever list they stand.
fn strings(element: &Element, found: &mut Vec<String>) {
    for child in &element.children {
        match child.name.as_str() {
            "string" => found.push(child.text.clone()),
            _ => strings(child, found),
        }
    }
}

fn retention(root: &Element, properties: &Element) -> Result<Option<Retention>, String> {
    let strategy =
        properties.below(&["jenkins.model.BuildDiscarderProperty", "strategy"]).or_else(|| root.child("logRotator"));
    let Some(strategy) = strategy else { return Ok(None) };
    let arguments = strategy.children.iter().map(|child| (child.name.as_str(), child.text.clone()));
    Ok(Some(discard::rules(arguments)?).filter(|rules| *rules != Retention::default()))
}

fn triggers(declared: &Element, before: &Spec) -> Result<Option<Triggers>, String> {
    let kept = before.triggers.clone().unwrap_or_default();
    let mut triggers = Triggers { push: kept.push, webhook: kept.webhook, ..Triggers::default() };
    for trigger in &declared.children {
        let spec = text(trigger, "spec");
        match trigger.name.as_str() {
            "hudson.triggers.TimerTrigger" => triggers.cron.extend(spec),
            "hudson.triggers.SCMTrigger" => triggers.poll.extend(spec),
            "jenkins.triggers.ReverseBuildTrigger" => {
                let threshold = trigger.below(&["threshold", "name"]).map(|name| name.text.trim().to_string());
                let projects = text(trigger, "upstreamProjects").unwrap_or_default();
                let names = projects.split(',').map(str::trim).filter(|name| !name.is_empty());
                triggers.upstream.extend(names.map(|name| Upstream {
                    // A folder is a namespace, and only pipelines of the same one are meant.
                    pipeline: name.rsplit('/').next().unwrap_or(name).to_string(),
                    threshold: threshold.clone(),
                }));
            }
            "com.cloudbees.jenkins.GitHubPushTrigger" => triggers.push = Some(true),
            other => return Err(format!("config.xml: the trigger {other} is not known")),
        }
    }
    Ok(Some(triggers).filter(|triggers| *triggers != Triggers::default()))
}

/// The document of a pipeline of a namespace; parameters and triggers that its script declared are in it too.
pub fn write(spec: &Spec, namespace: &str) -> String {
    let mut out = Writer { text: String::from("<?xml version='1.1' encoding='UTF-8'?>\n"), depth: 0 };
    out.within("flow-definition", " plugin=\"workflow-job\"", |out| {
        out.field("description", spec.description.as_deref().unwrap_or_default());
        out.field("keepDependencies", "false");
        out.within("properties", "", |out| properties(spec, out));
        let source = match (&spec.repository, &spec.git) {
            (Some(repository), _) => Some((format!("{HOST}{namespace}/{}.git", repository.name), None)),
            (None, Some(git)) => Some((git.url.clone(), git.credentials_id.clone())),
            (None, None) => None,
        };
        match (&spec.script, source) {
            (None, Some((url, credentials))) => from_git(spec, &url, credentials.as_deref(), out),
            (script, _) => {
                let class = " class=\"org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition\" plugin=\"workflow-cps\"";
                out.within("definition", class, |out| {
                    out.field("script", script.as_deref().unwrap_or_default());
                    out.field("sandbox", "true");
                });
            }
        }
        out.empty("triggers", "");
        out.field("disabled", if spec.suspend { "true" } else { "false" });
    });
    out.text
}

struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, line: &str) {
        self.text.push_str(&"  ".repeat(self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn within(&mut self, name: &str, attributes: &str, inner: impl FnOnce(&mut Self)) {
        self.line(&format!("<{name}{attributes}>"));
        self.depth += 1;
        inner(self);
        self.depth -= 1;
        self.line(&format!("</{name}>"));
    }

    fn field(&mut self, name: &str, value: &str) {
        self.line(&format!("<{name}>{}</{name}>", escaped(value)));
    }

    fn empty(&mut self, name: &str, attributes: &str) {
        self.line(&format!("<{name}{attributes}/>"));
    }
}

fn from_git(spec: &Spec, url: &str, credentials: Option<&str>, out: &mut Writer) {
    let class = " class=\"org.jenkinsci.plugins.workflow.cps.CpsScmFlowDefinition\" plugin=\"workflow-cps\"";
    out.within("definition", class, |out| {
        out.within("scm", " class=\"hudson.plugins.git.GitSCM\" plugin=\"git\"", |out| {
            out.field("configVersion", "2");
            out.within("userRemoteConfigs", "", |out| {
                out.within("hudson.plugins.git.UserRemoteConfig", "", |out| {
                    out.field("url", url);
                    if let Some(credentials) = credentials {
                        out.field("credentialsId", credentials);
                    }
                });
            });
            out.within("branches", "", |out| {
                let all = ["**".to_string()];
                let branches = if spec.branches.is_empty() { all.as_slice() } else { spec.branches.as_slice() };
                for name in branches {
                    let plain = name == "**" || name.starts_with("refs/");
                    let name = if plain { name.clone() } else { format!("*/{name}") };
                    out.within("hudson.plugins.git.BranchSpec", "", |out| out.field("name", &name));
                }
            });
            out.field("doGenerateSubmoduleConfigurations", "false");
            out.empty("submoduleCfg", " class=\"empty-list\"");
            out.empty("extensions", "");
        });
        out.field("scriptPath", spec.script_path.as_deref().unwrap_or("Jenkinsfile"));
        out.field("lightweight", "true");
    });
}

fn properties(spec: &Spec, out: &mut Writer) {
    match spec.concurrency {
        None | Some(Concurrency::Allow) => {}
        Some(concurrency) => {
            let name = "org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty";
            let abort = if concurrency == Concurrency::Replace { "true" } else { "false" };
            out.within(name, "", |out| out.field("abortPrevious", abort));
        }
    }
    if let Some(kept) = spec.retention {
        out.within("jenkins.model.BuildDiscarderProperty", "", |out| {
            out.within("strategy", " class=\"hudson.tasks.LogRotator\"", |out| {
                let number = |bound: Option<u32>| bound.map_or("-1".to_string(), |bound| bound.to_string());
                out.field("daysToKeep", &number(kept.days));
                out.field("numToKeep", &number(kept.runs));
                out.field("artifactDaysToKeep", &number(kept.artifact_days));
                out.field("artifactNumToKeep", &number(kept.artifact_runs));
            });
        });
    }
    if !spec.parameters.is_empty() {
        out.within("hudson.model.ParametersDefinitionProperty", "", |out| {
            out.within("parameterDefinitions", "", |out| {
                for parameter in &spec.parameters {
                    self::parameter(parameter, out);
                }
            });
        });
    }
    let Some(triggers) = &spec.triggers else { return };
    if triggers.cron.is_empty() && triggers.poll.is_empty() && triggers.upstream.is_empty() {
        return;
    }
    out.within("org.jenkinsci.plugins.workflow.job.properties.PipelineTriggersJobProperty", "", |out| {
        out.within("triggers", "", |out| {
            for (name, specs) in
                [("hudson.triggers.TimerTrigger", &triggers.cron), ("hudson.triggers.SCMTrigger", &triggers.poll)]
            {
                for spec in specs {
                    out.within(name, "", |out| out.field("spec", spec));
                }
            }
            for upstream in &triggers.upstream {
                out.within("jenkins.triggers.ReverseBuildTrigger", "", |out| {
                    out.field("spec", "");
                    out.field("upstreamProjects", &upstream.pipeline);
                    out.within("threshold", "", |out| {
                        out.field("name", upstream.threshold.as_deref().unwrap_or("SUCCESS"));
                    });
                });
            }
        });
    });
}

fn parameter(parameter: &Parameter, out: &mut Writer) {
    let known = PARAMETERS.iter().find(|(kind, _)| *kind == parameter.kind);
    let class = known.map_or(PARAMETERS[0].1, |(_, class)| class);
    out.within(class, "", |out| {
        out.field("name", &parameter.name);
        if !parameter.description.is_empty() {
            out.field("description", &parameter.description);
        }
        if parameter.kind == "choice" {
            out.within("choices", " class=\"java.util.Arrays$ArrayList\"", |out| {
                out.within("a", " class=\"string-array\"", |out| {
                    for choice in &parameter.choices {
                        out.field("string", choice);
                    }
                });
            });
        } else if !parameter.default.is_null() && parameter.kind != "password" {
            let text = parameter.default.as_str().map_or_else(|| parameter.default.to_string(), str::to_string);
            out.field("defaultValue", &text);
        }
    });
}

#[cfg(test)]
mod tests;
