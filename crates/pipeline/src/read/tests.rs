//! Scripts, their models and their errors.

use groovy::interpret::Program;

use super::*;
use crate::model::{Agent, PostCondition, Work};

fn model(text: &str) -> Pipeline {
    let program = Program::read("Jenkinsfile", text).unwrap();
    read(&program).unwrap_or_else(|errors| panic!("{}", errors[0])).unwrap()
}

fn errors(text: &str) -> Vec<(usize, String)> {
    let program = Program::read("Jenkinsfile", text).unwrap();
    read(&program).unwrap_err().into_iter().map(|error| (error.position.line, error.message)).collect()
}

/// The sections that every pipeline needs, and one more.
fn with(section: &str) -> String {
    format!("pipeline {{\nagent any\n{section}\nstages {{ stage('a') {{ steps {{ echo 'b' }} }} }}\n}}")
}

#[test]
fn every_section_comes_into_the_model() {
    let pipeline = model(
        "pipeline {
            agent { docker { image 'maven:3'; args '-v /a:/a' } }
            environment { A = 'b'; C = credentials('d') }
            options { timeout(time: 1, unit: 'HOURS'); retry(2); skipDefaultCheckout() }
            parameters { string(name: 'P', defaultValue: 'x'); choice(name: 'Q', choices: ['a', 'b']) }
            triggers { cron('@daily') }
            tools { maven 'm3' }
            libraries { lib('x@y') }
            stages {
                stage('one') {
                    when { beforeAgent true; anyOf { branch 'main'; not { environment name: 'A', value: 'b' } }; expression { true } }
                    input { message 'go?'; parameters { booleanParam(name: 'R') } }
                    steps { sh 'make'; script { def x = 1 } }
                    post { cleanup { deleteDir() } always { echo 'x' } }
                }
                stage('two') { failFast true; parallel { stage('a') { agent any; steps { echo 'a' } } stage('b') { stages { stage('c') { steps { echo 'c' } } } } } }
                stage('three') { matrix {
                    axes { axis { name 'OS'; values 'l', 'w' } axis { name 'V'; values '1', '2' } }
                    excludes { exclude { axis { name 'OS'; values 'w' } axis { name 'V'; notValues '1' } } }
                    stages { stage('d') { steps { echo 'd' } } } } }
            }
            post { failure { echo 'f' } always { echo 'a' } }
        }",
    );
    let Agent::Kind { kind, settings } = &pipeline.agent else { panic!("no agent") };
    assert_eq!((kind.as_str(), settings.len()), ("docker", 2));
    assert_eq!((pipeline.environment.len(), pipeline.options.len(), pipeline.parameters.len()), (2, 3, 2));
    assert_eq!((pipeline.triggers.len(), pipeline.tools.len(), pipeline.libraries.len()), (1, 1, 1));
    // Conditions stand in the order in which they are carried out.
    let order = |post: &[crate::model::Post]| post.iter().map(|post| post.condition).collect::<Vec<_>>();
    assert_eq!(order(&pipeline.post), [PostCondition::Always, PostCondition::Failure]);
    assert_eq!(order(&pipeline.stages[0].post), [PostCondition::Always, PostCondition::Cleanup]);
    let when = pipeline.stages[0].when.as_ref().unwrap();
    assert!(when.before_agent && when.conditions.len() == 2 && when.conditions[0].children.len() == 2);
    assert_eq!(pipeline.stages[0].input.as_ref().unwrap().parameters.len(), 1);
    assert!(
        pipeline.stages[1].fail_fast && matches!(&pipeline.stages[1].work, Work::Parallel(stages) if stages.len() == 2)
    );
    let Work::Matrix(matrix) = &pipeline.stages[2].work else { panic!("no matrix") };
    let cells = matrix.cells(100).unwrap();
    assert_eq!(cells.iter().map(|cell| format!("{}{}", cell[0].1, cell[1].1)).collect::<Vec<_>>(), ["l1", "w1", "l2"]);
    assert!(matrix.cells(3).is_none());
}

#[test]
fn a_script_without_pipeline_has_no_model() {
    let program = Program::read("Jenkinsfile", "node { sh 'make' }").unwrap();
    assert!(read(&program).unwrap().is_none());
}

#[test]
fn errors_stand_where_they_are_made() {
    let check = |text: &str, line: usize, words: &str| {
        let errors = errors(text);
        assert!(errors.iter().any(|(at, message)| *at == line && message.contains(words)), "{text}: {errors:?}");
    };
    check("pipeline {\n  agent any\n}", 1, "missing required section \"stages\"");
    check("pipeline {\n  stages {\n }\n}", 2, "no stages specified");
    check(&with("agent none"), 3, "multiple occurrences of the agent section");
    check(&with("banana { }"), 3, "undefined section \"banana\"");
    check(&with("options {\n  banana()\n}"), 4, "invalid option \"banana\"");
    check(&with("options {\n  timeout(tim: 1)\n}"), 4, "invalid argument \"tim\" of timeout");
    check(&with("environment {\n  A = 'b'\n  A = 'c'\n}"), 5, "duplicate environment variable");
    check(&with("environment {\n  $A = 'b'\n}"), 4, "not a valid name");
    check(&with("post {\n  always {\n  }\n}"), 4, "no steps specified");
    check(&with("triggers {\n  cron()\n}"), 4, "missing required argument \"spec\"");
    check(
        "pipeline {\n agent any\n stages {\n  stage('a') {\n   steps {\n    x = 1\n   }\n  }\n }\n}",
        6,
        "code stands in script",
    );
    check(
        "pipeline {\n agent any\n stages {\n  stage('a') {\n   steps {\n    timeout(time: 'x') {\n     echo 'y'\n    }\n   }\n  }\n }\n}",
        6,
        "expecting a whole number",
    );
}

#[test]
fn all_errors_of_a_script_are_found() {
    let found = errors("pipeline {\n banana {}\n stages {\n  stage('a') {\n   when { }\n  }\n }\n}");
    let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 5, 4, 1], "{found:?}");
}
