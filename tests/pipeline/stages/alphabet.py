"""Random texts for the shingler, of few enough characters that all its rules meet."""

from hypothesis import strategies as st

ALPHABET = (
    "aZ é9٣๓²½ß ŉ.,-_\n\t\u3000\x00"  # letters, digits, separators
    "\u00ad\u200b\u200d\ufeff\ufe0f\u0301\u0483\u3099\u064b\u0654\u05b0\U000e0101"  # format characters, marks
    "漢汉說说臺台乾ガかｶー々〇龘\U00020000\U0002f800\u2f92豈"  # Han and Kana, two UTF-16 units among them
    "สวัฒำກຂကကြខ្ម हि्क가각ﬁİǅΣςאّ"  # unspaced and spaced scripts, ligatures, special casing
    "+$€™😀👍🏽🇩🇪\ue000\U0001fae8㈱①"  # symbols, private use, newer emoji
)
texts = st.text(st.sampled_from(ALPHABET) | st.characters(max_codepoint=0x2FFF, exclude_categories=["Cs", "Cn"]))
