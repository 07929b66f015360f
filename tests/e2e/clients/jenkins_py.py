"""Everyday operations of python-jenkins against pipelines: `URL` is the remote API, `TOKEN` a token, `SPACE` a namespace, `IMAGE` a busybox.

What each call is to do: https://python-jenkins.readthedocs.io/en/latest/api.html
"""

import os
import time
import unittest
import uuid
import xml.etree.ElementTree as ET

import jenkins
import requests

URL = os.environ["URL"]
TOKEN = os.environ["TOKEN"]
SPACE = os.environ["SPACE"]
IMAGE = os.environ["IMAGE"]

CONFIG = """<?xml version='1.1' encoding='UTF-8'?>
<flow-definition plugin="workflow-job">
  <description>{description}</description>
  <properties>{properties}</properties>
  <definition class="org.jenkinsci.plugins.workflow.cps.CpsFlowDefinition" plugin="workflow-cps">
    <script>{script}</script>
    <sandbox>true</sandbox>
  </definition>
  <disabled>false</disabled>
</flow-definition>"""

PARAMETERS = """<hudson.model.ParametersDefinitionProperty><parameterDefinitions>
  <hudson.model.StringParameterDefinition><name>WHO</name><defaultValue>nobody</defaultValue></hudson.model.StringParameterDefinition>
  <hudson.model.ChoiceParameterDefinition><name>ENV</name><choices class="java.util.Arrays$ArrayList"><a class="string-array">
    <string>test</string><string>live</string></a></choices></hudson.model.ChoiceParameterDefinition>
</parameterDefinitions></hudson.model.ParametersDefinitionProperty>"""


def config(script, properties="", description=""):
    escaped = script.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return CONFIG.format(script=escaped, properties=properties, description=description)


def pipeline(steps, post=""):
    """A pipeline of one stage whose steps run in a busybox."""
    return """pipeline {
  agent { docker { image '%s' } }
  stages { stage('one') { steps { %s } } }
  %s
}""" % (IMAGE, steps, post)


class Case(unittest.TestCase):
    def setUp(self):
        self.server = jenkins.Jenkins(URL, username="kim", password=TOKEN, timeout=30)

    def job(self, script, properties=""):
        name = "%s/py-%s" % (SPACE, uuid.uuid4().hex[:8])
        self.server.create_job(name, config(script, properties, "made by a test"))
        self.addCleanup(self.gone, name)
        return name

    def gone(self, name):
        if self.server.job_exists(name):
            self.server.delete_job(name)

    def until(self, look, seconds=180):
        end = time.monotonic() + seconds
        while True:
            seen = look()
            if seen:
                return seen
            self.assertLess(time.monotonic(), end, "it did not come")
            time.sleep(0.3)

    def started(self, name, parameters=None):
        """Starts a build, and waits until it has left the queue."""
        item = self.server.build_job(name, parameters)
        left = self.until(lambda: self.server.get_queue_item(item).get("executable"))
        return left["number"]

    def ended(self, name, number):
        def look():
            info = self.server.get_build_info(name, number)
            return None if info["building"] else info

        return self.until(look)


class Server(Case):
    def test_who_asks_and_which_version_answers(self):
        # This client asks for the version without a password until it has sent one, which a secured Jenkins refuses, too.
        self.assertTrue(self.server.get_whoami()["fullName"])
        self.assertTrue(self.server.get_version())
        self.assertEqual(len(self.server.get_plugins()), 0)
        self.assertEqual(self.server.get_nodes()[0]["offline"], False)
        self.assertIn("all", [view["name"] for view in self.server.get_views()])

    def test_nobody_is_let_in_without_a_token(self):
        for user, password in (("kim", "wrong"), ("kim", ""), (None, None)):
            with self.assertRaises(jenkins.JenkinsException):
                jenkins.Jenkins(URL, username=user, password=password).get_info()
        answer = requests.get(URL + "/api/json", auth=("kim", TOKEN), headers={"Origin": "http://evil.example"})
        self.assertEqual(answer.status_code, 403)
        answer = requests.post(
            URL + "/job/%s/createItem?name=x" % SPACE, auth=("kim", TOKEN), headers={"Jenkins-Crumb": "forged"}
        )
        self.assertEqual(answer.status_code, 403)

    def test_a_linter_finds_what_is_wrong(self):
        self.assertEqual(self.server.check_jenkinsfile_syntax("pipeline { agent any\n stages { stage('a') { steps { echo 'x' } } } }"), [])
        self.assertTrue(self.server.check_jenkinsfile_syntax("pipeline { stages { } }"))


class Jobs(Case):
    def test_a_job_is_made_found_changed_and_deleted(self):
        name = self.job("node { echo 'one' }", PARAMETERS)
        self.assertTrue(self.server.job_exists(name))
        with self.assertRaises(jenkins.JenkinsException):
            self.server.create_job(name, config("node { }"))
        info = self.server.get_job_info(name)
        self.assertEqual((info["fullName"], info["description"], info["color"]), (name, "made by a test", "notbuilt"))
        defined = info["property"][0]["parameterDefinitions"]
        self.assertEqual([one["name"] for one in defined], ["WHO", "ENV"])
        self.assertEqual(defined[1]["choices"], ["test", "live"])
        short = name.split("/")[1]
        listed = [job["fullname"] for job in self.server.get_all_jobs() if job["fullname"] == name]
        self.assertEqual(listed, [name])
        self.assertIn(short, [job["name"] for job in self.server.get_jobs(view_name=SPACE)])
        script = ET.fromstring(self.server.get_job_config(name)).find("definition/script").text
        self.assertEqual(script, "node { echo 'one' }")
        self.server.reconfig_job(name, config("node { echo '<two> & more' }"))
        script = ET.fromstring(self.server.get_job_config(name)).find("definition/script").text
        self.assertEqual(script, "node { echo '<two> & more' }")
        self.server.disable_job(name)
        self.assertEqual(self.server.get_job_info(name)["color"], "disabled")
        with self.assertRaises(Exception):
            self.server.build_job(name)
        self.server.enable_job(name)
        copy = name + "-copy"
        self.server.copy_job(name, copy)
        self.addCleanup(self.gone, copy)
        self.assertIn("more", self.server.get_job_config(copy))
        self.server.delete_job(name)
        self.assertFalse(self.server.job_exists(name))
        for broken in ("<maven2-moduleset/>", "nonsense", "<flow-definition/>"):
            with self.assertRaises(Exception):
                self.server.create_job("%s/broken" % SPACE, broken)

    def test_a_folder_is_a_namespace(self):
        self.assertTrue(self.server.is_folder(SPACE))
        self.assertFalse(self.server.job_exists("no-such-folder/x"))
        with self.assertRaises(jenkins.JenkinsException):
            self.server.get_job_info("no-such-folder/x")


class Builds(Case):
    def test_a_build_is_started_with_parameters_and_followed(self):
        steps = "sh 'echo hello $WHO; echo in $ENV; echo secret is $PATH_EXTRA.'"
        name = self.job(pipeline(steps), PARAMETERS)
        with self.assertRaises(Exception):
            self.server.build_job(name, {"ENV": "nowhere"})
        number = self.started(name, {"WHO": "yard & co", "ENV": "live", "PATH_EXTRA": "injected"})
        info = self.ended(name, number)
        self.assertEqual((info["result"], info["number"]), ("SUCCESS", number))
        given = [action["parameters"] for action in info["actions"] if "parameters" in action][0]
        self.assertEqual({one["name"]: one["value"] for one in given}, {"WHO": "yard & co", "ENV": "live"})
        self.assertTrue([action for action in info["actions"] if "causes" in action])
        text = self.server.get_build_console_output(name, number)
        self.assertIn("hello yard & co", text)
        self.assertIn("in live", text)
        # What no parameter is named is no variable of a step.
        self.assertNotIn("injected", text)
        job = self.server.get_job_info(name)
        self.assertEqual((job["color"], job["lastSuccessfulBuild"]["number"]), ("blue", number))
        self.assertEqual(self.server.get_build_stages(name, number)["stages"][0]["status"], "SUCCESS")
        second = self.started(name)
        self.assertEqual(second, number + 1)
        self.assertEqual(self.ended(name, second)["previousBuild"]["number"], number)
        self.assertIn("hello nobody", self.server.get_build_console_output(name, second))
        self.server.delete_build(name, number)
        with self.assertRaises(jenkins.JenkinsException):
            self.server.get_build_info(name, number)

    def test_a_log_is_followed_while_it_grows(self):
        name = self.job(pipeline("sh 'for n in 1 2 3 4 5 6; do echo line $n; sleep 0.5; done'"))
        number = self.started(name)
        address = "%s/job/%s/%s/logText/progressiveText" % (URL, name.replace("/", "/job/"), number)
        start, text, pieces = 0, "", 0
        end = time.monotonic() + 180
        while time.monotonic() < end:
            answer = requests.get(address, params={"start": start}, auth=("kim", TOKEN), timeout=30)
            self.assertEqual(answer.status_code, 200)
            text += answer.text
            pieces += bool(answer.text)
            size = int(answer.headers["X-Text-Size"])
            self.assertEqual(size, start + len(answer.content))
            start = size
            if answer.headers.get("X-More-Data") != "true":
                break
            time.sleep(0.3)
        self.assertEqual([line for line in text.splitlines() if line.startswith("line ")], ["line %d" % n for n in range(1, 7)])
        self.assertEqual(text, self.server.get_build_console_output(name, number))
        self.assertGreater(pieces, 1)

    def test_a_build_is_stopped(self):
        name = self.job(pipeline("sh 'echo begun; sleep 1000'"))
        number = self.started(name)
        self.until(lambda: "begun" in self.server.get_build_console_output(name, number))
        self.assertIn(number, [build["number"] for build in self.server.get_running_builds()])
        self.server.stop_build(name, number)
        self.assertEqual(self.ended(name, number)["result"], "ABORTED")
        self.assertEqual(self.server.get_job_info(name)["color"], "aborted")

    def test_tests_and_artifacts_are_fetched(self):
        report = '<testsuite name="cart"><testcase name="a" classname="c"/><testcase name="b" classname="c"><failure message="m">t</failure></testcase></testsuite>'
        steps = """sh '''mkdir -p out/deep; echo '{"a": 1}' > out/a.json; head -c 100000 /dev/zero > out/deep/zero.bin'''
          writeFile file: 'report.xml', text: '%s'
          junit 'report.xml'
          archiveArtifacts artifacts: 'out/**', fingerprint: true""" % report
        name = self.job(pipeline(steps))
        number = self.started(name)
        info = self.ended(name, number)
        self.assertEqual(info["result"], "UNSTABLE", self.server.get_build_console_output(name, number))
        paths = sorted(one["relativePath"] for one in info["artifacts"])
        self.assertEqual(paths, ["out/a.json", "out/deep/zero.bin"])
        self.assertEqual(self.server.get_build_artifact(name, number, "out/a.json"), {"a": 1})
        self.assertEqual(self.server.get_build_artifact_as_bytes(name, number, "out/deep/zero.bin"), bytes(100000))
        for hostile in ("../start.json", "..%2fstart.json", "out/../../start.json", "%2fetc/passwd"):
            address = "%s/job/%s/%s/artifact/%s" % (URL, name.replace("/", "/job/"), number, hostile)
            answer = requests.Session().send(
                requests.Request("GET", address, auth=("kim", TOKEN)).prepare(), timeout=30
            )
            self.assertEqual(answer.status_code, 404, hostile)
        tests = self.server.get_build_test_report(name, number)
        self.assertEqual((tests["failCount"], tests["passCount"]), (1, 1))
        failed = tests["suites"][0]["cases"][1]
        self.assertEqual((failed["status"], failed["errorDetails"]), ("REGRESSION", "m"))
        self.assertEqual(self.server.get_job_info(name)["color"], "yellow")


if __name__ == "__main__":
    unittest.main()
