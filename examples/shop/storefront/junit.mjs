// A reporter for `node --test`: what tests said, in JUnit's format.

const escape = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

export default async function* junit(events) {
  const cases = [];
  let failed = 0;
  for await (const { type, data } of events) {
    if (type !== "test:pass" && type !== "test:fail") continue;
    // A file is no test, though it is told as one.
    if (data.nesting === 0 && data.name.endsWith(".js")) continue;
    const wrong = type === "test:fail" ? data.details.error : undefined;
    failed += wrong ? 1 : 0;
    const failure = wrong ? `<failure message="${escape(wrong.message)}">${escape(wrong.cause?.stack ?? wrong.stack)}</failure>` : "";
    const skipped = data.skip === undefined ? "" : "<skipped/>";
    const seconds = (data.details.duration_ms ?? 0) / 1000;
    cases.push(`  <testcase classname="storefront" name="${escape(data.name)}" time="${seconds}">${failure}${skipped}</testcase>`);
  }
  yield `<testsuite name="storefront" tests="${cases.length}" failures="${failed}">\n${cases.join("\n")}\n</testsuite>\n`;
}
