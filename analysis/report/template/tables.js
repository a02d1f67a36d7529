"use strict";

// "Copy as CSV" of every table: quoted where needed, minus signs that a spreadsheet reads, an empty cell for a dash.

function csv(table) {
  const cell = (text) => {
    const plain = text.trim().replace(/\u2212/g, "-").replace(/^\u2013$/, "");
    return /[",\n]/.test(plain) ? `"${plain.replace(/"/g, '""')}"` : plain;
  };
  return [...table.rows].map((row) => [...row.cells].map((td) => cell(td.textContent)).join(",") + "\n").join("");
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea"); // where a page from disk may not use the clipboard
    area.value = text;
    area.style.position = "fixed";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

for (const button of document.querySelectorAll("button.csv")) {
  const label = button.textContent;
  button.addEventListener("click", async () => {
    const done = await copy(csv(button.closest(".table").querySelector("table")));
    button.textContent = done ? "Copied" : "Cannot copy here";
    setTimeout(() => (button.textContent = label), 1500);
  });
}
