/** The style of a report's page. */
export const REPORT_STYLE = `
:root { color-scheme: light dark; --line: #8888; --soft: #8882; --link: #0b57d0 }
@media (prefers-color-scheme: dark) { :root { --link: #a8c7fa } }
* { box-sizing: border-box }
body { font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; padding: 1rem 1.5rem 4rem; max-width: 76rem }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; margin: .3rem 0 1rem }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 }
dt { font-weight: 600 }
dd { margin: 0; overflow-wrap: anywhere }
.problems { border: 2px solid #d55e00; border-radius: .4rem; padding: .5rem 1rem; margin: 1rem 0 }
.problems ul { margin: .3rem 0; padding-left: 1.2rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top }
td:not(:first-child) { font-variant-numeric: tabular-nums }
.bar { display: flex; flex-wrap: wrap; gap: .5rem; align-items: center; margin: .5rem 0 }
button, input { font: inherit; padding: .25rem .6rem; border: 1px solid var(--line); border-radius: .3rem;
  background: var(--soft); color: inherit }
button:focus-visible, input:focus-visible, canvas:focus-visible, summary:focus-visible {
  outline: 3px solid var(--link); outline-offset: 2px }
.map { border: 1px solid var(--line); border-radius: .3rem; background: #16181d; overflow: hidden }
canvas { display: block; width: 100%; height: 30rem; cursor: crosshair; touch-action: none }
.where { min-height: 3em; margin: .4rem 0; font-family: ui-monospace, monospace; font-size: .9rem }
.key { display: inline-flex; width: 1.3em; height: 1.3em; border-radius: .2em; justify-content: center;
  align-items: center; font: .8em ui-monospace, monospace; color: #000; margin-right: .4em }
.tree, .tree ul { list-style: none; margin: 0; padding-left: 1.1rem }
.tree { padding-left: 0; font-family: ui-monospace, monospace; font-size: .87rem }
.tree li { padding: .05rem 0; overflow-wrap: anywhere }
.tree li.leaf { padding-left: 1.05rem }
.tree .value { opacity: .85 }
summary { cursor: pointer }
mark { background: #f0e442; color: #000 }
.hint { opacity: .8; font-size: .9rem }
`;
