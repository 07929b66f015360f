//! Steps, options, parameters, triggers and conditions that are known, with their arguments.
//!
//! Names and types are those of the steps' reference: <https://www.jenkins.io/doc/pipeline/steps/>. A step that is not here may come from a
//! library, and is looked for when a run comes to it.

/// The type of an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A whole number, or a string of one.
    Number,
    /// A truth value.
    Truth,
    /// Anything.
    Any,
}

/// An argument.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
}

/// What is called, with which arguments. The first is the one that needs no name.
#[derive(Clone, Copy, Debug)]
pub struct Signature {
    /// The name.
    pub name: &'static str,
    /// Its arguments.
    pub parameters: &'static [Parameter],
    /// Whether steps stand within it.
    pub block: bool,
    /// Whether it takes one argument without a name.
    pub bare: bool,
}

impl Signature {
    /// An argument.
    pub fn parameter(&self, name: &str) -> Option<&'static Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }
}

const fn must(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, required: true }
}

const fn may(name: &'static str, kind: Kind) -> Parameter {
    Parameter { name, kind, required: false }
}

const fn step(name: &'static str, parameters: &'static [Parameter]) -> Signature {
    Signature { name, parameters, block: false, bare: true }
}

const fn block(name: &'static str, parameters: &'static [Parameter]) -> Signature {
    Signature { name, parameters, block: true, bare: true }
}

const fn named(name: &'static str, parameters: &'static [Parameter]) -> Signature {
    Signature { name, parameters, block: false, bare: false }
}

use Kind::{Any, Number, Text, Truth};

/// Steps.
pub const STEPS: &[Signature] = &[
    step(
        "archiveArtifacts",
        &[
            must("artifacts", Text),
            may("allowEmptyArchive", Truth),
            may("caseSensitive", Truth),
            may("defaultExcludes", Truth),
            may("excludes", Text),
            may("fingerprint", Truth),
            may("followSymlinks", Truth),
            may("onlyIfSuccessful", Truth),
        ],
    ),
    step(
        "bat",
        &[
            must("script", Text),
            may("encoding", Text),
            may("label", Text),
            may("returnStatus", Truth),
            may("returnStdout", Truth),
        ],
    ),
    step(
        "build",
        &[
            must("job", Text),
            may("parameters", Any),
            may("propagate", Truth),
            may("quietPeriod", Number),
            may("wait", Truth),
            may("waitForStart", Truth),
        ],
    ),
    block(
        "catchError",
        &[may("message", Text), may("buildResult", Text), may("catchInterruptions", Truth), may("stageResult", Text)],
    ),
    step("checkout", &[must("scm", Any), may("changelog", Truth), may("poll", Truth)]),
    block("container", &[must("name", Text), may("shell", Text)]),
    step("deleteDir", &[]),
    block("dir", &[must("path", Text)]),
    step("echo", &[must("message", Any)]),
    step("error", &[must("message", Text)]),
    step("fileExists", &[must("file", Text)]),
    step(
        "git",
        &[
            must("url", Text),
            may("branch", Text),
            may("changelog", Truth),
            may("credentialsId", Text),
            may("poll", Truth),
        ],
    ),
    step(
        "input",
        &[
            must("message", Text),
            may("cancel", Text),
            may("id", Text),
            may("ok", Text),
            may("parameters", Any),
            may("submitter", Text),
            may("submitterParameter", Text),
        ],
    ),
    step("isUnix", &[]),
    step(
        "junit",
        &[
            must("testResults", Text),
            may("allowEmptyResults", Truth),
            may("checksName", Text),
            may("healthScaleFactor", Any),
            may("keepLongStdio", Truth),
            may("keepProperties", Truth),
            may("keepTestNames", Truth),
            may("skipMarkingBuildUnstable", Truth),
            may("skipOldReports", Truth),
            may("skipPublishingChecks", Truth),
            may("stdioRetention", Text),
            may("testDataPublishers", Any),
        ],
    ),
    step("library", &[must("identifier", Text), may("changelog", Truth), may("retriever", Any)]),
    step("load", &[must("path", Text)]),
    block(
        "lock",
        &[
            may("resource", Text),
            may("extra", Any),
            may("inversePrecedence", Truth),
            may("label", Text),
            may("priority", Number),
            may("quantity", Number),
            may("reason", Text),
            may("resourceSelectStrategy", Text),
            may("skipIfLocked", Truth),
            may("timeoutForAllocateResource", Number),
            may("timeoutUnit", Text),
            may("variable", Text),
        ],
    ),
    step(
        "mail",
        &[
            must("subject", Text),
            must("body", Text),
            may("bcc", Text),
            may("cc", Text),
            may("charset", Text),
            may("from", Text),
            may("mimeType", Text),
            may("replyTo", Text),
            may("to", Text),
        ],
    ),
    step("milestone", &[may("ordinal", Number), may("label", Text), may("unsafe", Truth)]),
    block("node", &[may("label", Text)]),
    step(
        "powershell",
        &[
            must("script", Text),
            may("encoding", Text),
            may("label", Text),
            may("returnStatus", Truth),
            may("returnStdout", Truth),
        ],
    ),
    step("pwd", &[may("tmp", Truth)]),
    step("readFile", &[must("file", Text), may("encoding", Text)]),
    step("readJSON", &[may("file", Text), may("returnPojo", Truth), may("text", Text)]),
    step("readTrusted", &[must("path", Text)]),
    step(
        "readYaml",
        &[may("file", Text), may("codePointLimit", Number), may("maxAliasesForCollections", Number), may("text", Text)],
    ),
    block("retry", &[must("count", Number), may("conditions", Any)]),
    block("script", &[]),
    step(
        "sh",
        &[
            must("script", Text),
            may("encoding", Text),
            may("label", Text),
            may("returnStatus", Truth),
            may("returnStdout", Truth),
        ],
    ),
    step("sleep", &[must("time", Number), may("unit", Text)]),
    step(
        "stash",
        &[
            must("name", Text),
            may("allowEmpty", Truth),
            may("excludes", Text),
            may("includes", Text),
            may("useDefaultExcludes", Truth),
        ],
    ),
    block("timeout", &[must("time", Number), may("activity", Truth), may("unit", Text)]),
    block("timestamps", &[]),
    step("tool", &[must("name", Text), may("type", Text)]),
    step("unstable", &[must("message", Text)]),
    step("unstash", &[must("name", Text)]),
    block("waitUntil", &[may("initialRecurrencePeriod", Number), may("quiet", Truth)]),
    block("warnError", &[must("message", Text), may("catchInterruptions", Truth)]),
    block("withCredentials", &[must("bindings", Any)]),
    block("withEnv", &[must("overrides", Any)]),
    step("writeFile", &[must("file", Text), must("text", Text), may("encoding", Text)]),
    step("writeJSON", &[may("file", Text), must("json", Any), may("pretty", Number), may("returnText", Truth)]),
    step(
        "writeYaml",
        &[
            may("file", Text),
            may("charset", Text),
            may("data", Any),
            may("datas", Any),
            may("overwrite", Truth),
            may("returnText", Truth),
        ],
    ),
    block("ws", &[must("dir", Text)]),
];

/// Steps that have no place among the steps of a declarative pipeline: sections say what they do.
pub const BLOCKED: &[&str] = &["stage", "properties", "parallel"];

/// Options of a whole pipeline.
pub const OPTIONS: &[Signature] = &[
    step("buildDiscarder", &[must("strategy", Any)]),
    step("checkoutToSubdirectory", &[must("subdirectory", Text)]),
    step("copyArtifactPermission", &[must("projectNames", Text)]),
    step("disableConcurrentBuilds", &[may("abortPrevious", Truth)]),
    step("disableRestartFromStage", &[]),
    step("disableResume", &[]),
    step("durabilityHint", &[must("hint", Any)]),
    step("newContainerPerStage", &[]),
    step("overrideIndexTriggers", &[must("enableTriggers", Truth)]),
    step("parallelsAlwaysFailFast", &[]),
    step("preserveStashes", &[may("buildCount", Number)]),
    step("quietPeriod", &[must("quietPeriod", Number)]),
    named(
        "rateLimitBuilds",
        &[may("throttle", Any), may("count", Number), may("durationName", Text), may("userBoost", Truth)],
    ),
    step("skipDefaultCheckout", &[may("skip", Truth)]),
    step("skipStagesAfterUnstable", &[]),
];

/// Options that are steps around a pipeline or a stage, beside those steps of [`STEPS`] that have blocks.
pub const WRAPPERS: &[Signature] = &[step("ansiColor", &[must("colorMapName", Text)])];

/// Steps with blocks that are no options.
pub const NO_OPTIONS: &[&str] = &["node", "script", "dir", "ws", "container", "catchError", "warnError", "waitUntil"];

/// Options of a stage that are no steps.
pub const STAGE_OPTIONS: &[&str] = &["skipDefaultCheckout", "checkoutToSubdirectory"];

/// Parameters of runs.
pub const PARAMETERS: &[Signature] = &[
    named("booleanParam", &[must("name", Text), may("defaultValue", Truth), may("description", Text)]),
    named("choice", &[must("name", Text), must("choices", Any), may("description", Text)]),
    named(
        "credentials",
        &[
            must("name", Text),
            may("credentialType", Text),
            may("defaultValue", Text),
            may("description", Text),
            may("required", Truth),
        ],
    ),
    named("file", &[must("name", Text), may("description", Text)]),
    named(
        "password",
        &[must("name", Text), may("defaultValue", Any), may("defaultValueAsSecret", Any), may("description", Text)],
    ),
    named("run", &[must("name", Text), must("projectName", Text), may("description", Text), may("filter", Any)]),
    named("string", &[must("name", Text), may("defaultValue", Text), may("description", Text), may("trim", Truth)]),
    named("text", &[must("name", Text), may("defaultValue", Text), may("description", Text), may("trim", Truth)]),
];

/// What starts runs.
pub const TRIGGERS: &[Signature] = &[
    step("cron", &[must("spec", Text)]),
    step("githubPush", &[]),
    step("pollSCM", &[must("scmpoll_spec", Text), may("ignorePostCommitHooks", Truth)]),
    step("upstream", &[must("upstreamProjects", Text), may("threshold", Any)]),
];

/// Kinds of tools.
pub const TOOLS: &[&str] = &["ant", "git", "go", "gradle", "jdk", "jgit", "maven", "nodejs"];

/// Kinds of agents, the argument without a name first.
pub const AGENTS: &[Signature] = &[
    step("label", &[must("label", Text), may("customWorkspace", Text), may("retries", Number)]),
    step("node", &[may("label", Text), may("customWorkspace", Text), may("retries", Number)]),
    step(
        "docker",
        &[
            must("image", Text),
            may("alwaysPull", Truth),
            may("args", Text),
            may("containerPerStageRoot", Truth),
            may("customWorkspace", Text),
            may("label", Text),
            may("registryCredentialsId", Text),
            may("registryUrl", Text),
            may("reuseNode", Truth),
        ],
    ),
    step(
        "dockerfile",
        &[
            may("filename", Text),
            may("additionalBuildArgs", Text),
            may("args", Text),
            may("customWorkspace", Text),
            may("dir", Text),
            may("label", Text),
            may("registryCredentialsId", Text),
            may("registryUrl", Text),
            may("reuseNode", Truth),
        ],
    ),
    step(
        "kubernetes",
        &[
            may("yaml", Text),
            may("activeDeadlineSeconds", Number),
            may("agentContainer", Text),
            may("agentInjection", Truth),
            may("cloud", Text),
            may("containerTemplate", Any),
            may("containerTemplates", Any),
            may("containers", Any),
            may("customWorkspace", Text),
            may("defaultContainer", Text),
            may("idleMinutes", Number),
            may("imagePullSecrets", Any),
            may("inheritFrom", Text),
            may("instanceCap", Number),
            may("label", Text),
            may("namespace", Text),
            may("nodeSelector", Text),
            may("podRetention", Any),
            may("retries", Number),
            may("runAsGroup", Number),
            may("runAsUser", Number),
            may("schedulerName", Text),
            may("serviceAccount", Text),
            may("showRawYaml", Truth),
            may("slaveConnectTimeout", Number),
            may("supplementalGroups", Text),
            may("volumes", Any),
            may("workingDir", Text),
            may("workspaceVolume", Any),
            may("yamlFile", Text),
            may("yamlMergeStrategy", Any),
        ],
    ),
];

/// Conditions of stages that have arguments.
pub const CONDITIONS: &[Signature] = &[
    step("branch", &[must("pattern", Text), may("comparator", Text)]),
    step("buildingTag", &[]),
    step(
        "changeRequest",
        &[
            may("id", Text),
            may("author", Text),
            may("authorDisplayName", Text),
            may("authorEmail", Text),
            may("branch", Text),
            may("comparator", Text),
            may("fork", Text),
            may("target", Text),
            may("title", Text),
            may("url", Text),
        ],
    ),
    step("changelog", &[must("pattern", Text)]),
    step("changeset", &[must("pattern", Text), may("caseSensitive", Truth), may("comparator", Text)]),
    named("environment", &[must("name", Text), must("value", Text), may("ignoreCase", Truth)]),
    named("equals", &[must("expected", Any), must("actual", Any)]),
    step("isRestartedRun", &[]),
    step("tag", &[may("pattern", Text), may("comparator", Text)]),
    step("triggeredBy", &[may("type", Text), may("cause", Text), may("detail", Text)]),
];

/// What a person is asked.
pub const INPUT: &[&str] = &["message", "id", "ok", "submitter", "submitterParameter"];

/// The signature of a name in a table.
pub fn find(table: &'static [Signature], name: &str) -> Option<&'static Signature> {
    table.iter().find(|signature| signature.name == name)
}
