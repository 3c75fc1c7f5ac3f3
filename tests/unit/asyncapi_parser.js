// Prints what the official parser has to say of the file of the first argument, as a JSON list: warnings and worse.
const { readFileSync } = require("fs");
const { Parser } = require("@asyncapi/parser");

const WARNING = 1;
const file = process.argv[1];

new Parser().parse(readFileSync(file, "utf8"), { source: file }).then(({ document, diagnostics }) => {
  const said = diagnostics.filter(({ severity }) => severity <= WARNING);
  console.log(JSON.stringify(said.map(({ path, message }) => `${path.join("/")}: ${message}`)));
  if (!document && !said.length) throw new Error("The parser has made no document, and has not said why.");
});
