"""Marks a file as made by a model: IPTC's DigitalSourceType, in XMP, where image tools and platforms look for it.

https://iptc.org/standards/photo-metadata/iptc-standard/ (property "Digital Source Type"), values:
https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

MADE_BY_A_MODEL = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

# One packet, as the XMP specification (ISO 16684-1) has it. It is the same for every request.
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    f' Iptc4xmpExt:DigitalSourceType="{MADE_BY_A_MODEL}"/>'
    "</rdf:RDF></x:xmpmeta>"
    '<?xpacket end="r"?>'
)
