"""The Streamlit map UI."""
