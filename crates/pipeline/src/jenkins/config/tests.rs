//! Documents as Jenkins writes them.

use serde_json::json;

use super::*;

const FROM_GIT: &str = r#"<?xml version='1.1' encoding='UTF-8'?>
<flow-definition plugin="workflow-job@1400">
  <description>The shop &amp; more</description>
  <properties>
    <org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty><abortPrevious>true</abortPrevious>
    </org.jenkinsci.plugins.workflow.job.properties.DisableConcurrentBuildsJobProperty>
    <jenkins.model.BuildDiscarderProperty><strategy class="hudson.tasks.LogRotator">
      <daysToKeep>-1</daysToKeep><numToKeep>5</numToKeep><artifactDaysToKeep>2</artifactDaysToKeep><artifactNumToKeep>-1</artifactNumToKeep>
    </strategy></jenkins.model.BuildDiscarderProperty>
    <hudson.model.ParametersDefinitionProperty><parameterDefinitions>
      <hudson.model.StringParameterDefinition><name>WHO</name><defaultValue>you</defaultValue><trim>false</trim></hudson.model.StringParameterDefinition>
      <hudson.model.BooleanParameterDefinition><name>FAST</name><description>d</description><defaultValue>true</defaultValue></hudson.model.BooleanParameterDefinition>
      <hudson.model.ChoiceParameterDefinition><name>ENV</name><choices class="java.util.Arrays$ArrayList"><a class="string-array"><string>a</string><string>b</string></a></choices></hudson.model.ChoiceParameterDefinition>
    </parameterDefinitions></hudson.model.ParametersDefinitionProperty>
    <org.jenkinsci.plugins.workflow.job.properties.PipelineTriggersJobProperty><triggers>
      <hudson.triggers.TimerTrigger><spec>H 4 * * *</spec></hudson.triggers.TimerTrigger>
      <jenkins.triggers.ReverseBuildTrigger><spec/><upstreamProjects>yard/base, other</upstreamProjects><threshold><name>UNSTABLE</name></threshold></jenkins.triggers.ReverseBuildTrigger>
    </triggers></org.jenkinsci.plugins.workflow.job.properties.PipelineTriggersJobProperty>
  </properties>
  <definition class="org.jenkinsci.plugins.workflow.cps.CpsScmFlowDefinition" plugin="workflow-cps@1">
    <scm class="hudson.plugins.git.GitSCM"><userRemoteConfigs><hudson.plugins.git.UserRemoteConfig>
      <url>https://example.com/a.git</url><credentialsId>me</credentialsId></hudson.plugins.git.UserRemoteConfig></userRemoteConfigs>
      <branches><hudson.plugins.git.BranchSpec><name>*/main</name></hudson.plugins.git.BranchSpec></branches></scm>
    <scriptPath>ci/Jenkinsfile</scriptPath>
  </definition>
  <triggers/><disabled>true</disabled>
</flow-definition>"#;

fn read_new(document: &str) -> Result<Spec, String> {
    read(document.as_bytes(), "yard", &Spec::default())
}

#[test]
fn a_document_becomes_a_pipeline_and_a_document_again() {
    let spec = read_new(FROM_GIT).unwrap();
    assert_eq!(spec.git, Some(Git { url: "https://example.com/a.git".into(), credentials_id: Some("me".into()) }));
    assert_eq!(
        (spec.branches.as_slice(), spec.script_path.as_deref()),
        (["main".to_string()].as_slice(), Some("ci/Jenkinsfile"))
    );
    assert_eq!((spec.description.as_deref(), spec.suspend), (Some("The shop & more"), true));
    assert_eq!(spec.concurrency, Some(Concurrency::Replace));
    assert_eq!(spec.retention, Some(Retention { runs: Some(5), artifact_days: Some(2), ..Retention::default() }));
    let defaults: Vec<&Json> = spec.parameters.iter().map(|parameter| &parameter.default).collect();
    assert_eq!(defaults, [&json!("you"), &json!(true), &Json::Null]);
    assert_eq!(spec.parameters[2].choices, ["a", "b"]);
    let triggers = spec.triggers.clone().unwrap();
    assert_eq!(triggers.cron, ["H 4 * * *"]);
    assert_eq!(triggers.upstream[0], Upstream { pipeline: "base".into(), threshold: Some("UNSTABLE".into()) });
    assert_eq!(triggers.upstream[1].pipeline, "other");
    assert_eq!(read_new(&write(&spec, "yard")).unwrap(), spec);
}

#[test]
fn scripts_and_repositories_here_keep_what_they_are() {
    let script = "pipeline { agent any\n stages { stage('<&>\"]]>') { steps { echo '한글' } } } }";
    let spec = Spec { script: Some(script.into()), ..Spec::default() };
    assert_eq!(read_new(&write(&spec, "yard")).unwrap(), spec);
    let spec = Spec {
        repository: Some(Named { name: "shop".into() }),
        script_path: Some("Jenkinsfile".into()),
        ..Spec::default()
    };
    let document = write(&spec, "yard");
    assert!(document.contains("<url>https://git.madang.internal/yard/shop.git</url>"), "{document}");
    assert_eq!(read_new(&document).unwrap(), spec);
    // In another namespace it is a repository elsewhere.
    assert!(read(document.as_bytes(), "other", &Spec::default()).unwrap().git.is_some());
    for (url, expected) in [
        ("http://127.0.0.1:3000/git/yard/shop.git", Some("shop")),
        ("https://evil.example/git/yard/shop.git", None),
        ("https://git.madang.internal/yard/a/b.git", None),
    ] {
        assert_eq!(own(url, "yard").as_deref(), expected, "{url}");
    }
}

#[test]
fn what_jenkins_does_not_know_stays() {
    let before = Spec {
        service_account_name: Some("builder".into()),
        active_deadline_seconds: Some(60),
        triggers: Some(Triggers { push: Some(false), ..Triggers::default() }),
        ..Spec::default()
    };
    let after = read(FROM_GIT.as_bytes(), "yard", &before).unwrap();
    assert_eq!((after.service_account_name.as_deref(), after.active_deadline_seconds), (Some("builder"), Some(60)));
    assert_eq!(after.triggers.unwrap().push, Some(false));
}

#[test]
fn projects_of_shell_steps_become_scripts() {
    let project = "<project><builders><hudson.tasks.Shell><command>echo 'a' \\n</command></hudson.tasks.Shell></builders></project>";
    assert_eq!(read_new(project).unwrap().script.unwrap(), "node {\n    sh '''echo \\'a\\' \\\\n'''\n}\n");
    assert_eq!(read_new("<project><builders/><publishers/></project>").unwrap().script.unwrap(), "node {\n}\n");
}

#[test]
fn what_cannot_be_a_pipeline_is_refused() {
    for (document, word) in [
        ("<maven2-moduleset/>", "maven2-moduleset"),
        ("<flow-definition/>", "definition"),
        ("<flow-definition><definition class='x'/></flow-definition>", "\"x\""),
        (
            "<flow-definition><definition class='CpsScmFlowDefinition'><scm class='SubversionSCM'/></definition></flow-definition>",
            "Git",
        ),
        ("<project><builders><hudson.tasks.Maven/></builders></project>", "Maven"),
        ("nonsense", "line 1"),
        (
            "<project><properties><jenkins.model.BuildDiscarderProperty><strategy><numToKeep>x</numToKeep></strategy></jenkins.model.BuildDiscarderProperty></properties></project>",
            "numToKeep",
        ),
    ] {
        let error = read_new(document).unwrap_err();
        assert!(error.contains(word), "{document}: {error}");
    }
}
